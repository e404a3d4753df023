"""Claims on the fund: what an account has lost, gathered from the rows of `loss_claims`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.rows import Fault, instant_ms, key, shown, to_ms


class Part(NamedTuple):
    """A position that may be deleveraged."""

    size: float  # contracts that are held, short is negative
    price: float  # at which the position bears its share
    share_usd: float  # of the loss


class Claim(NamedTuple):
    """What an account lacks, and which of its positions others may close."""

    event_ms: int
    account: str
    claim_id: str
    broke_ms: int
    missing_usd: float
    currency: str
    is_settled: bool
    parts: dict[str, Part]  # by venue:instrument

    @property
    def subject(self) -> tuple[str, str]:
        """Account and claim_id."""
        return self.account, self.claim_id


def claim_of(row: Mapping[str, Any]) -> Claim | Fault:
    """The claim in a checked row, with at most one position; or what is wrong with it."""
    named = f"{row['account']}/{instant_ms(to_ms(row['event_at']))}"
    if row["claim_id"] != named:
        # What answers a claim bears its id: two answers with one id would be booked once.
        return Fault("claim_id", f"account/instant, {named}", shown(row["claim_id"]))
    if not row["missing_usd"] > 0:
        return Fault("missing_usd", "above zero", shown(row["missing_usd"]))
    parts: dict[str, Part] = {}
    if row.get("instrument") is not None:
        for column in ("venue", "size", "price", "share_usd"):
            if row.get(column) is None:
                return Fault(column, "not NULL where instrument is not NULL", "NULL")
        for column in ("price", "share_usd"):
            if not row[column] > 0:
                return Fault(column, "above zero", shown(row[column]))
        if row["is_settled"] or row["size"] == 0:
            return Fault("size", "a position of a claim that is not settled", shown(row["size"]))
        parts[key("instruments", row)] = Part(row["size"], row["price"], row["share_usd"])
    return Claim(
        to_ms(row["event_at"]),
        row["account"],
        row["claim_id"],
        to_ms(row["broke_at"]),
        float(row["missing_usd"]),
        row["currency"],
        row["is_settled"],
        parts,
    )


def contradicts(known: Claim | None, claim: Claim) -> bool:
    """Whether a row of a claim says something else than those before it."""
    if known is None or known.event_ms != claim.event_ms:
        return False
    parts = [known.parts.get(contract, part) == part for contract, part in claim.parts.items()]
    return known[:-1] != claim[:-1] or not all(parts)


def joined(known: Claim | None, claim: Claim) -> Claim:
    """The newer of two claims of an account; of one claim all positions."""
    if known is None or known.event_ms < claim.event_ms:
        return claim
    if known.event_ms > claim.event_ms:
        return known
    return known._replace(parts=known.parts | claim.parts)


def listed(claim: Claim) -> list[Any]:
    """For storage."""
    return [*claim[:-1], {contract: list(part) for contract, part in claim.parts.items()}]


def restored(stored: list[Any]) -> Claim:
    """From storage."""
    parts = {contract: Part(*part) for contract, part in stored[-1].items()}
    return Claim(*[*stored[:-1], parts])
