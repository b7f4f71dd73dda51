"""The contract over HTTP, open to everybody: what notify shows is what `qalqan contract export` writes."""

import asyncio

import httpx2

from deploy.contract import documents as openapi
from qalqan.contract import documents
from qalqan.runinfo import RunInfo


async def test_notify_shows_the_contract_without_a_token(run: RunInfo) -> None:
    async with httpx2.AsyncClient(base_url=run.dashboard or "") as http:
        listed = (await http.get("/contract")).json()
        assert set(listed) == {f"/contract/{name}" for name in documents()}
        for name in ("asyncapi.json", "schemas/VoteCast.json"):
            answer = await http.get(f"/contract/{name}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            assert answer.json() == documents()[name]
        unknown = await http.get("/contract/schemas/%2e%2e%2fasyncapi.json")
        assert unknown.status_code == 404
        assert (await http.get("/contract/schemas/VotCast.json")).json()["status"] == 404


async def test_each_service_shows_the_document_that_is_exported(run: RunInfo) -> None:
    """Made without anything that runs, in another environment, it is the one of the service that does."""
    exported = await asyncio.to_thread(openapi)
    async with httpx2.AsyncClient() as http:
        for service, address in run.http.items():
            assert (await http.get(f"{address}/openapi.json")).json() == exported[f"openapi/{service}.json"]
