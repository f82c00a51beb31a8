"""Is the way in secure, and does the application know who comes?"""

from __future__ import annotations

import pytest

from harness.checkers import (
    ClientAddressIsTrue,
    ForgeriesAreNotBelieved,
    HeadersAreEverywhere,
    HttpIsSentToHttps,
    OnlySecureVersions,
    SchemeIsKnown,
)
from harness.pytest_plugin import Judge
from harness.scene import Scene

pytestmark = pytest.mark.needs("tls")


@pytest.mark.promise("tls.redirect")
def test_http_is_sent_to_https(scene: Scene, judge: Judge) -> None:
    """Whoever comes over http is sent to the same page over https, and loses nothing they have posted."""
    scene.edge.look_at_redirects()

    judge(HttpIsSentToHttps())


@pytest.mark.promise("tls.versions")
def test_only_secure_versions_are_spoken(scene: Scene, judge: Judge) -> None:
    """Connections are made with TLS that is still secure, and with HTTP/2 for whoever offers it."""
    scene.edge.look_at_versions()

    judge(OnlySecureVersions())


@pytest.mark.promise("headers.everywhere")
@pytest.mark.needs("headers")
def test_every_answer_has_the_security_headers(scene: Scene, judge: Judge) -> None:
    """Every answer carries the security headers, whoever made it, also when it is an error."""
    scene.edge.look_at_headers()

    judge(HeadersAreEverywhere())


@pytest.mark.promise("edge.proto")
def test_the_application_knows_the_scheme(scene: Scene, judge: Judge) -> None:
    """The application knows that people came over https."""
    scene.edge.look_at_what_is_told(forged=False)

    judge(SchemeIsKnown())


@pytest.mark.promise("edge.client-ip")
def test_the_application_knows_the_client(scene: Scene, judge: Judge) -> None:
    """The application knows the address a person came from."""
    scene.edge.look_at_what_is_told(forged=False)

    judge(ClientAddressIsTrue())


@pytest.mark.promise("edge.forged-headers")
def test_forged_headers_are_not_believed(scene: Scene, judge: Judge) -> None:
    """Nobody can make the application believe that they came from elsewhere."""
    scene.edge.look_at_what_is_told(forged=True)

    judge(ForgeriesAreNotBelieved())
