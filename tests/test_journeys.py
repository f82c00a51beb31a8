"""Journeys: declared steps become requests, answers become meanings."""

from __future__ import annotations

import json
from email.parser import BytesParser

import pytest

from harness.errors import SetupError
from harness.journeys import Reply, compile_journeys, judge
from harness.model import Answer, Outcome

PERSON = {
    "user.email": "ada@example.org",
    "user.password": "p&ss word",
    "user.name": "ada",
    "record": "r/1",
    "text": "hello",
}

GUIDE = {
    "login": {
        "steps": [
            {"get": "/login", "take": {"csrf": {"field": "csrf_token"}}},
            {
                "post": "/login",
                "form": {"email": "{user.email}", "password": "{user.password}", "csrf_token": "{csrf}"},
                "expect": {"status": 303, "location": "/dashboard"},
            },
        ]
    },
    "whoami": {
        "steps": [
            {
                "get": "/dashboard",
                "recognised": {"status": 200, "contains": "{user.email}"},
                "logged_out": {"status": 303, "location": "/login*"},
            }
        ]
    },
    "write": {"steps": [{"put": "/notes/{record}", "json": {"id": "{record}", "tags": ["{text}", 3, None]}}]},
}


def step_of(**declared):
    (step,) = compile_journeys({"j": {"steps": [declared]}})["j"].steps
    return step


class TestCompiling:
    def test_a_declared_journey_survives_the_way_to_another_process(self):
        """What a journey declares of itself, sent as JSON, compiles to an equal journey."""
        compiled = compile_journeys(GUIDE)
        sent = json.loads(json.dumps({name: journey.declared() for name, journey in compiled.items()}))
        assert compile_journeys(sent) == compiled

    def test_models_of_the_setup_file_are_taken_as_they_were_declared(self):
        """Anything with `model_dump` is read through it, so the setup room's models need no translation."""

        class Model:
            def model_dump(self, *, mode, by_alias, exclude_none):
                assert (mode, by_alias, exclude_none) == ("json", True, True)
                return GUIDE["whoami"]

        assert compile_journeys({"whoami": Model()}) == compile_journeys({"whoami": GUIDE["whoami"]})

    def test_all_mistakes_are_told_at_once_with_their_keys(self):
        """A person mends a file once, not mistake by mistake."""
        broken = {
            "login": {"steps": [{"get": "/a", "post": "/b"}, {"get": "a"}, {"get": "/a", "expct": {"status": 200}}]},
            "whoami": {"steps": [{"get": "/", "recognised": {}, "expect": {"status": 42, "contain": "x"}}]},
            "read": {"steps": [{"get": "/{recrod}", "take": {"x": {"regex": "("}, "y": {"regex": "no group"}}}]},
            "write": {"steps": [{"get": "/{open", "headers": {"Host": "x", "a b": "c"}}]},
            "logout": {"steps": []},
            "counter": {"steps": [{"get": "/{recrod}#top"}, {"get": "/{recrod}"}]},
        }
        with pytest.raises(SetupError) as caught:
            compile_journeys(broken)
        told = "\n".join(caught.value.mistakes)
        for expected in [
            "journey.login.steps[1] must have exactly one of get, post, put, delete (got get, post)",
            "journey.login.steps[2].get must be a path that begins with one / (got 'a')",
            "journey.login.steps[3].expct is unknown; did you mean expect?",
            "journey.whoami.steps[1].recognised must have one of",
            "journey.whoami.steps[1].expect.status must be a status from 100 to 599",
            "journey.whoami.steps[1].expect.contain is unknown; did you mean contains?",
            "journey.read.steps[1].take.x.regex '(' is no pattern",
            "journey.read.steps[1].take.y.regex 'no group' has no group",
            "journey.write.steps[1].get: a lone '{' at character 2: write '{{'",
            "journey.write.steps[1].headers.Host is set by the harness",
            "journey.write.steps[1].headers: 'a b' is no header name",
            "journey.logout.steps must be a list of one step or more",
            "journey.counter.steps[1].get: the part after # is never sent",
        ]:
            assert expected in told

    def test_an_unknown_placeholder_is_told_with_the_nearest_known(self):
        """Names taken in any journey and names a task will give are known."""
        steps = {"steps": [{"get": "/slow?seconds={seconds}&c={csrf}&x={user.emial}"}]}
        with pytest.raises(SetupError) as caught:
            compile_journeys({"login": GUIDE["login"], "slow": steps}, values=["seconds"])
        assert caught.value.mistakes == (
            "journey.slow.steps[1]: unknown placeholder {user.emial}; did you mean {user.email}?",
        )


class TestRequests:
    def test_values_are_quoted_for_the_place_they_stand_in(self):
        """In a path and in a form special characters are escaped, in JSON they are JSON."""
        compiled = compile_journeys(GUIDE)
        form = compiled["login"].steps[1].request({**PERSON, "csrf": "a+b=="})
        assert form.body == b"email=ada%40example.org&password=p%26ss+word&csrf_token=a%2Bb%3D%3D"
        assert form.headers == (("Content-Type", "application/x-www-form-urlencoded"),)
        write = compiled["write"].steps[0].request(PERSON)
        assert (write.method, write.path) == ("PUT", "/notes/r%2F1")
        assert json.loads(write.body) == {"id": "r/1", "tags": ["hello", 3, None]}

    def test_doubled_braces_are_braces(self):
        """`{{` and `}}` stand for themselves."""
        step = step_of(post="/x", headers={"X-A": "{{{user.name}}}"})
        assert step.request(PERSON).headers == (("X-A", "{ada}"),)

    def test_a_missing_value_is_named(self):
        """A journey that needs a token nobody took yet cannot be sent, and says which."""
        with pytest.raises(LookupError, match=r"no value for \{csrf\}"):
            compile_journeys(GUIDE)["login"].steps[1].request(PERSON)

    def test_a_taken_value_cannot_add_a_header(self):
        """A line break in a value would be another header: it is not sent."""
        step = step_of(get="/", headers={"Authorization": "Bearer {user.name}"})
        with pytest.raises(LookupError):
            step.request({"user.name": "a\r\nX-Evil: 1"})


class TestTaking:
    @pytest.mark.parametrize(
        ("take", "expected"),
        [
            ({"field": "csrf"}, 'a"b&c'),
            ({"field": "plain"}, "1"),
            ({"field": "empty"}, ""),
            ({"field": "nowhere"}, None),
            ({"header": "X-Token"}, "t0"),
            ({"header": "X-None"}, None),
            ({"cookie": "sid"}, "abc=="),
            ({"cookie": "si"}, None),
            ({"regex": "data-id='([0-9]+)'"}, "77"),
            ({"regex": "nothing(here)"}, None),
            ({"json": "a"}, None),
        ],
    )
    def test_from_a_page(self, take, expected):
        """Attributes come in any order and quoting, values are unescaped, what is not there is None."""
        page = b"""<form data-id='77'><INPUT TYPE=hidden title="a > b" value="a&quot;b&amp;c" name='csrf'>
            <input name=plain value=1 /><input name="empty"></form>"""
        reply = Reply(200, {"x-token": "t0"}, page, ("other=1; Path=/", "sid=abc==; HttpOnly"))
        (found,) = step_of(get="/", take={"x": take}).take.values()
        assert found.from_reply(reply) == expected

    @pytest.mark.parametrize(
        ("path", "expected"),
        [("a.b", "x"), ("a.list.1.id", "7"), ("a.list.5", None), ("a.yes", "true"), ("a", None), ("z", None)],
    )
    def test_from_json(self, path, expected):
        """A dotted path leads through objects and lists to text, a number or a boolean."""
        body = b'{"a": {"b": "x", "list": [1, {"id": 7}], "yes": true}}'
        assert step_of(get="/", take={"x": {"json": path}}).take["x"].from_reply(Reply(200, {}, body)) == expected

    def test_a_hostile_page_is_searched_in_bounded_time(self):
        """Four megabytes of unclosed tags find nothing, and soon."""
        page = b'<input "' * 500_000
        assert step_of(get="/", take={"x": {"field": "x"}}).take["x"].from_reply(Reply(200, {}, page)) is None


WHOAMI = {
    "get": "/dashboard",
    "recognised": {"status": 200, "contains": "{user.email}"},
    "logged_out": {"status": 303, "location": "/login*"},
    "refused": {"status": 200, "contains": "banned"},
    "overloaded": {"status": [429, 503]},
}


class TestJudging:
    @pytest.mark.parametrize(
        ("status", "location", "body", "expected"),
        [
            (200, None, "Hi ada@example.org", (Answer.RECOGNISED, Outcome.OK, None)),
            (200, None, "Hi ada&#64;example.org", (Answer.RECOGNISED, Outcome.OK, None)),
            (200, None, "ada@example.org is banned", (Answer.RECOGNISED, Outcome.OK, None)),
            (200, None, "banned", (Answer.REFUSED, Outcome.FAILED, "http-200")),
            (200, None, "Hi nobody", (Answer.FAILED, Outcome.FAILED, "wrong-body")),
            (303, "/login", "", (Answer.LOGGED_OUT, Outcome.FAILED, "logged-out")),
            (303, "http://h:1/login?next=/dashboard", "", (Answer.LOGGED_OUT, Outcome.FAILED, "logged-out")),
            (303, "login", "", (Answer.LOGGED_OUT, Outcome.FAILED, "logged-out")),
            (303, "/elsewhere", "", (Answer.FAILED, Outcome.FAILED, "http-303")),
            (303, "http://[", "", (Answer.FAILED, Outcome.FAILED, "http-303")),
            (303, None, "", (Answer.FAILED, Outcome.FAILED, "http-303")),
            (429, None, "", (Answer.OVERLOADED, Outcome.FAILED, "http-429")),
            (404, None, "", (Answer.REFUSED, Outcome.FAILED, "http-404")),
            (500, None, "", (Answer.FAILED, Outcome.FAILED, "http-500")),
            (502, None, "", (Answer.FAILED, Outcome.UNKNOWN, "http-502")),
            (504, None, "", (Answer.FAILED, Outcome.UNKNOWN, "http-504")),
        ],
    )
    def test_the_first_rule_that_holds_decides(self, status, location, body, expected):
        """Recognised, logged out, refused, overloaded, and what is left is a failure of its kind."""
        reply = Reply(status, {"location": location} if location else {}, body.encode())
        found = judge(step_of(**WHOAMI), reply, PERSON, asked="/dashboard")
        assert (found.answer, found.outcome, found.error) == expected

    @pytest.mark.parametrize(
        ("status", "headers", "outcome"),
        [
            (400, {}, Outcome.FAILED),
            (429, {}, Outcome.FAILED),
            (501, {}, Outcome.FAILED),
            (503, {"retry-after": "1"}, Outcome.FAILED),
            (503, {}, Outcome.UNKNOWN),
            (500, {}, Outcome.UNKNOWN),
            (502, {}, Outcome.UNKNOWN),
            (504, {}, Outcome.UNKNOWN),
            (200, {}, Outcome.UNKNOWN),
        ],
    )
    def test_a_write_is_only_failed_when_it_surely_had_no_effect(self, status, headers, outcome):
        """Anything else that was not expected may have happened all the same."""
        step = step_of(post="/notes", expect={"status": 201})
        assert judge(step, Reply(status, headers), PERSON).outcome is outcome

    def test_a_refusal_that_was_declared_is_the_application_s_word(self):
        """With a rule for it, a 503 to a write surely did nothing."""
        step = step_of(post="/notes", expect={"status": 201}, overloaded={"status": 503})
        found = judge(step, Reply(503), PERSON)
        assert (found.answer, found.outcome, found.error) == (Answer.OVERLOADED, Outcome.FAILED, "http-503")

    def test_a_503_of_the_balancer_is_no_overload_of_the_application(self):
        """Only the application can say that it has too much to do; the balancer's 503 means that nobody was reached."""
        found = judge(step_of(get="/"), Reply(503), PERSON, from_balancer=True)
        assert (found.answer, found.error) == (Answer.FAILED, "balancer-503")
        assert judge(step_of(get="/"), Reply(503), PERSON).answer is Answer.OVERLOADED

    def test_the_page_of_another_visitor_outranks_every_rule(self):
        """A page may name both: it is still somebody else's."""
        found = judge(step_of(**WHOAMI), Reply(200, {}, b"ada@example.org"), PERSON, somebody_else=True)
        assert (found.answer, found.outcome, found.error) == (Answer.SOMEBODY_ELSE, Outcome.FAILED, "wrong-user")

    @pytest.mark.parametrize(("status", "outcome"), [(200, Outcome.OK), (399, Outcome.OK), (400, Outcome.FAILED)])
    def test_a_step_without_rules_expects_a_status_below_400(self, status, outcome):
        """The least one may ask of a step."""
        assert judge(step_of(get="/"), Reply(status), PERSON).outcome is outcome

    def test_absent_text_must_not_be_in_the_page(self):
        """`absent` is the one rule that holds for what is not there."""
        step = step_of(get="/", expect={"status": 200, "absent": "error <1>"})
        assert judge(step, Reply(200, {}, b"fine"), PERSON).outcome is Outcome.OK
        found = judge(step, Reply(200, {}, b"an error &lt;1&gt;"), PERSON)
        assert (found.error, found.detail.split(":")[0]) == ("wrong-body", "the page carries error <1>")

    def test_a_path_glob_may_ignore_or_name_the_query(self):
        """`/dashboard` holds for `/dashboard?welcome=1` too."""
        step = step_of(get="/", expect={"location": "/dashboard"})
        for location in ("/dashboard", "/dashboard?welcome=1", "https://elsewhere/dashboard"):
            assert judge(step, Reply(303, {"location": location}), PERSON).outcome is Outcome.OK
        assert judge(step, Reply(303, {"location": "/dashboards"}), PERSON).outcome is Outcome.FAILED

    def test_broken_text_is_no_reason_to_fall(self):
        """Bytes that are no UTF-8 are judged like any others."""
        found = judge(step_of(**WHOAMI), Reply(200, {}, b"\xff\xfe&\x00"), PERSON)
        assert found.error == "wrong-body"


class TestFiles:
    def test_a_file_goes_as_a_browser_sends_it(self):
        """Fields first, then files with a name; the boundary is in neither, and the same for the same content."""
        step = step_of(post="/files", form={"title": "{text}"}, files={"file": "a {text}"}, expect={"status": 201})
        request = step.request(PERSON)
        kind = dict(request.headers)["Content-Type"]
        message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
        title, file = message.get_payload()
        assert (title.get_filename(), title.get_payload()) == (None, "hello")
        assert (file.get_filename(), file.get_payload(), file.get_content_type()) == (
            "file.txt",
            "a hello",
            "text/plain",
        )
        assert request == step.request(PERSON)
        assert compile_journeys({"j": {"steps": [step.declared()]}})["j"].steps == (step,)

    def test_one_body_is_enough(self):
        """Files beside json is a mistake, with its key."""
        with pytest.raises(SetupError, match=r"steps\[1\] has both files and json"):
            step_of(post="/files", files={"file": "a"}, json={})
