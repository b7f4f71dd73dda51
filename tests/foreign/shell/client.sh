#!/bin/sh
# Submits an event over HTTP and waits for what comes of it, with openssl and curl alone.
#
#   client.sh RUN.JSON KEY.PEM STATE OWNER EVENT REQUEST_ID DATA.JSON
#
# e.g. client.sh .qalqan/run.json .qalqan/keys/AZ.pem AZ pledge PledgeOffered TR-2023-0001 offer.json
# Prints the event as it stands on its public topic and exits 0, or the problem with its reason and exits 1.
# Needs OpenSSL 3 (Ed25519 with pkeyutl -rawin) and curl.
set -eu
run=$1 key=$2 state=$3 owner=$4 event=$5 subject=$6 data=$7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run.json has one member a line
of_run() { sed -n "s/^ *\"$1\": \"\(.*\)\".*/\1/p" "$run"; }
sha() { openssl dgst -sha256 -binary; }
base64_of() { openssl base64 -A "$@"; }

id="sh-$(openssl rand -hex 8)"
source="qalqan://$(of_run network)/states/$state"
type="qalqan.$event.v1"
time=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# The core digest: each attribute's digest, then the data's (no dataschema: the digest of nothing).
for part in "$id" "$source" 1.0 "$type" application/json "" "$subject" "$time"; do
    printf %s "$part" | sha
done >"$work/digests"
sha <"$data" >>"$work/digests"
core=$(sha <"$work/digests" | base64_of)

# What is signed: DSSE's pre-authentication encoding of the payload. All of it is ASCII, so ${#} counts bytes.
payload_type=https://cloudevents.io/verifiability/dsse/v0.1
payload="{\"core\":\"$core\"}"
printf 'DSSEv1 %d %s %d %s' ${#payload_type} "$payload_type" ${#payload} "$payload" >"$work/signed"
signature=$(openssl pkeyutl -sign -rawin -inkey "$key" -in "$work/signed" | base64_of)
key_id=$(openssl pkey -in "$key" -pubout -outform DER | openssl dgst -sha256 -r | cut -c1-64)
material=$(printf '{"payload":"%s","payloadType":"%s","signatures":[{"keyid":"%s","sig":"%s"}]}' \
    "$(printf %s "$payload" | base64_of)" "$payload_type" "$key_id" "$signature" | base64_of)

# --data-binary: plain --data would take the line feeds out of what was signed.
status=$(curl -sS -o "$work/answer" -w '%{http_code}' "$(of_run "$owner" | grep ^http)/events" \
    -H "content-type: application/json" -H "ce-specversion: 1.0" -H "ce-id: $id" -H "ce-source: $source" \
    -H "ce-type: $type" -H "ce-subject: $subject" -H "ce-time: $time" -H "ce-dssematerial: $material" \
    --data-binary "@$data")
if [ "$status" != 202 ]; then
    cat "$work/answer"
    exit 1
fi

# The live stream has every public event, from the first if asked so: ours, or the rejection of its place.
place=$(sed -n 's/.*"location": *"\/submissions\/\([^"]*\)".*/\1/p' "$work/answer")
mkfifo "$work/stream"
curl -sN --max-time 20 -H "Authorization: Bearer $(of_run token)" -H "Last-Event-ID: 0" \
    "$(of_run dashboard)/stream" >"$work/stream" &
sed -n "\\,\"id\": *\"$id\",{s/^data: //p;q;};\\,\"subject\": *\"$place\",{s/^data: //p;q;}" \
    <"$work/stream" >"$work/outcome"
kill $! 2>/dev/null || :
cat "$work/outcome"
[ -s "$work/outcome" ] && ! grep -q SubmissionRejected "$work/outcome"
