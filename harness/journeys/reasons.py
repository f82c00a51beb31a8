"""What is likely to be the matter where people cannot log in, by the answer they got. Must not: judge anybody by it."""

from __future__ import annotations

__all__ = ["likely_reason"]


def likely_reason(*, status: int | None, error: str | None, detail: str) -> str:
    """In words, with what to do; empty where the answer says nothing that is known."""
    if status in (429, 503):
        return (
            "it is told to come later: all people of a run come from this machine, so that a limit for each address meets them "
            "together; raise it in app.env"
        )
    if detail.startswith("sent to https://"):
        return (
            "it is sent to https: give the balancer TLS ([balancer.tls]), or tell the application that it is https already: in "
            '[traffic], headers = { X-Forwarded-Proto = "https" }'
        )
    if detail.startswith("nothing to take"):
        return f"{detail}, and a later step sends it"
    if error == "unsent":
        return detail
    if status in (400, 403, 419, 422):
        return (
            "a token against forged requests may be missing (get the page with the form in a step before, and take it there), or a "
            "header that the application wants from whoever stands in front of it ([traffic] headers)"
        )
    if status == 401:
        return "it does not take the password: see journey.register, or users where people are given"
    if status == 404:
        return "there is no such page: correct the path in the journey"
    if detail.startswith("sent to "):
        return f"it is {detail}, and expect names another place"
    if status == 200:
        return "a form that is shown again with status 200 is how many applications refuse: expect says what a success looks like"
    if error == "refused":
        return "nobody listens there"
    return ""
