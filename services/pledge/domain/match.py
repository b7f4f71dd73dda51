"""Which offer can serve which need."""

from qalqan.events import Need, PledgeContent


def fits(offer: PledgeContent, need: Need) -> bool:
    """Whether an offer can serve a need: by capability or substitute, unit and, if it says, what it answers.

    Units are never converted: nobody said how many persons a team has. `other` fits only what the offer
    names, since the code alone does not say what it is.
    """
    if offer.answers:
        if need.need_id not in offer.answers:
            return False
    elif offer.capability == "other":
        return False
    return offer.unit == need.unit and offer.capability in (need.capability, *need.substitutes)
