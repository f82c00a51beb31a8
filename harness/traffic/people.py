"""The simulated people: who they are, what they hold, and whose name a page carries.

Every address has one recognisable shape (`v`, sixteen random hex digits, one domain), so a search for the domain finds
whoever a page names. Must not: send anything.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote, quote_plus, unquote

from harness import clock
from harness.journeys import Journey
from harness.traffic.cookies import CookieJar

__all__ = ["People", "Person", "Visitor", "given_with_a_record", "text_of", "without_secrets"]

_HOME = "@example.org"
_HOME_BYTES = _HOME.encode()
_LOCAL_LENGTH = 17
_WRITE = "write"
_LETTERS = "HJKNQUWYZhjknquwyz"
"""Of passwords: none that the address or the name of the same person has, since some applications refuse a password for having
letters in common with those (Django's UserAttributeSimilarityValidator did with one in 1,800 people)."""
_PASSWORD = re.compile(rf"Pw7-[{_LETTERS}]{{5,24}}")
"""Anybody's: all have one shape, and a page may name somebody else's. Also where it was cut."""
_SHORTEST_SECRET = 8
"""Characters; what is shorter (a language, a flag, a number of things) opens nothing."""
_ADDRESS = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,253}")


def text_of(record: str) -> str:
    """The text written under this record: it follows from the record, so whoever reads knows what to expect."""
    return "written " + hashlib.blake2b(record.encode(), digest_size=8).hexdigest()


def given_with_a_record(journeys: Mapping[str, Journey]) -> frozenset[str]:
    """The values that belong to the record that was written and not to the person: what `write` takes, and no other journey, such
    as the id that the application chose for it."""
    takes = {name: {key for step in journey.steps for key in step.take} for name, journey in journeys.items()}
    elsewhere = {key for name, keys in takes.items() if name != _WRITE for key in keys}
    return frozenset(takes.get(_WRITE, set()) - elsewhere)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One account."""

    email: str
    password: str = field(repr=False)
    name: str

    @property
    def values(self) -> dict[str, str]:
        return {"user.email": self.email, "user.password": self.password, "user.name": self.name}


@dataclass(slots=True, kw_only=True, eq=False)
class Visitor:
    """One browser of one person: cookies, values taken from answers, and the records it knows to be written."""

    id: str
    person: Person
    known_as: str
    """Whose requests these are in the record: a copied browser's are its owner's."""
    address: bytes
    """The person's email, as a page carries it."""
    jar: CookieJar
    values: dict[str, str] = field(repr=False)
    """The person's placeholders and everything taken so far."""
    records: list[str] = field(default_factory=list)
    given: dict[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """What was given with each record when it was written, by record: whoever reads an old one needs that one's."""
    address_from: str = ""
    """The address of this machine that connections of its own come from; empty for any."""

    def without_secrets(self, text: str) -> str:
        """The text without what opens this account: the password (and anybody's), cookies, and whatever was taken from answers,
        which may be a token. Also where the text ends in the middle of one."""
        return without_secrets(_PASSWORD.sub("(password)", text), self._secrets()) if text else text

    def _secrets(self) -> Iterator[tuple[str, str]]:
        known = self.person.values
        for name, value in self.values.items():
            if name not in known and value not in known.values():
                yield name, value
        for name, value in self.jar.cookies.items():
            yield f"cookie {name}", value


def without_secrets(text: str, secrets: Iterable[tuple[str, str]]) -> str:
    """The text with each of these, as they are and as they stand in pages and addresses, by its name; also where the text ends in
    the middle of one. What is shorter than eight characters is left alone."""
    for what, secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        for form in {secret, unquote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret)}:
            if len(form) < _SHORTEST_SECRET:
                continue
            if form in text:
                text = text.replace(form, f"({what})")
            begun = text.find(form[:_SHORTEST_SECRET])
            while begun >= 0 and not form.startswith(text[begun:]):
                begun = text.find(form[:_SHORTEST_SECRET], begun + 1)
            if begun >= 0:
                text = f"{text[:begun]}({what})"
    return text


class People:
    """Everybody in this run: people of our own making, or those who are given."""

    def __init__(self, seed: int, given: Sequence[Person] = (), *, first: int = 0) -> None:
        """`given`: who comes, in turn, beginning with number `first`; nobody: new people are made."""
        self._seed = seed
        self._given = tuple(given)
        self._first = self._next = first
        self._visitors: dict[str, Visitor] = {}
        self._addresses: set[bytes] = set()
        self._given_addresses = {person.email.lower().encode() for person in given if "@" in person.email}

    def __getitem__(self, visitor: str) -> Visitor:
        return self._visitors[visitor]

    def __contains__(self, visitor: object) -> bool:
        return visitor in self._visitors

    def begin_again(self) -> None:
        """Whoever is given comes again from now on, in a browser that nobody has used."""
        self._next = self._first

    def arrive(self, count: int, *, strangers: bool = False) -> list[Visitor]:
        """New people, each with an account of its own that follows from the seed and its number; or those who are given, in
        turn. `strangers`: people who never log in, and need no account."""
        return [self._admit(self._new_person() if strangers else self._next_person()) for _ in range(count)]

    def copy(self, visitors: Iterable[Visitor], *, cookies: bool, without: str | None = None) -> list[Visitor]:
        """Another browser of the same people: with the cookies as they are now (but for one), or with none."""
        copies = []
        for original in visitors:
            copy = self._admit(original.person, known_as=original.known_as)
            copy.records, copy.given = list(original.records), dict(original.given)
            if cookies:
                copy.jar = original.jar.copy(without=without)
                copy.values = dict(original.values)
            copies.append(copy)
        return copies

    def names_somebody_else(self, body: bytes, visitor: Visitor) -> bool:
        """Whether a page carries the address of anybody known here who is not this person."""
        # Templates that escape the at sign are rare; only then is the whole page unescaped.
        if b"#" in body and (b"&#64;" in body or b"&#x40;" in body):
            body = html.unescape(body.decode("utf-8", "replace")).encode()
        own = visitor.address
        if self._given_addresses:
            return self._names_somebody_given(body, own.lower())
        at = body.find(_HOME_BYTES)
        while at >= 0:
            end = at + len(_HOME_BYTES)
            address = body[max(0, at - _LOCAL_LENGTH) : end]
            if address != own and address in self._addresses:
                return True
            at = body.find(_HOME_BYTES, end)
        return False

    def _names_somebody_given(self, body: bytes, own: bytes) -> bool:
        """People who are given may know each other: a page that carries this person's address as well is theirs."""
        met = {found[0].lower() for found in _ADDRESS.finditer(body)} & self._given_addresses
        return bool(met) and own not in met

    def _next_person(self) -> Person:
        if not self._given:
            return self._new_person()
        person = self._given[self._next % len(self._given)]
        self._next += 1
        return person

    def _new_person(self) -> Person:
        random = Random(f"{self._seed}/visitors/{len(self._visitors) + 1}")  # noqa: S311 - must repeat with the seed
        # Passwords satisfy the usual rules: length, both cases, a digit, a sign.
        return Person(
            email=f"v{random.getrandbits(64):016x}{_HOME}",
            password=f"Pw7-{''.join(random.choices(_LETTERS, k=24))}",
            name=f"visitor{random.getrandbits(40):010x}",
        )

    def _admit(self, person: Person, *, known_as: str | None = None) -> Visitor:
        visitor_id = f"v{len(self._visitors) + 1}"
        visitor = Visitor(
            id=visitor_id,
            person=person,
            known_as=known_as or visitor_id,
            address=person.email.encode(),
            jar=CookieJar(now=clock.wall),
            values=person.values,
        )
        self._visitors[visitor.id] = visitor
        self._addresses.add(visitor.address)
        return visitor
