"""Tokens of others: whose are taken, whom they make, and what is not taken for one."""

import asyncio
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwk
from pydantic import ValidationError

from tests.security.issuing import (
    AUDIENCE,
    ISSUER,
    IssuerUnderTest,
    claims,
    encoded,
    issuing,
    make_key,
    sign,
)
from trunkline.errors import SettingsInvalid
from trunkline.models import Role, Scope
from trunkline.security.identity.credentials import (
    Credential,
    CredentialExpired,
    CredentialInvalid,
    IdentityUnavailable,
    Refused,
    ScopeInsufficient,
)
from trunkline.security.identity.tokens import LONGEST, Tokens
from trunkline.settings import TokenSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def issuer() -> AsyncGenerator[IssuerUnderTest]:
    async with issuing() as running:
        yield running


@asynccontextmanager
async def taking(*issuers: TokenSettings, **options: Any) -> AsyncGenerator[Tokens]:
    tokens = Tokens(issuers, **options)
    try:
        yield tokens
    finally:
        await tokens.aclose()


async def refusal(tokens: Tokens, token: str) -> type[Refused] | None:
    try:
        await tokens.credential(token)
    except Refused as error:
        return type(error)
    return None


# -- whom they make -------------------------------------------------------------------------------


async def test_a_token_lets_in_whom_its_issuer_names(issuer: IssuerUnderTest) -> None:
    token = issuer.token()

    async with taking(issuer.settings()) as tokens:
        who = (await tokens.credential(token)).principal

    assert (who.subject, who.user) == (f"token:{ISSUER}#ann", f"{ISSUER}#ann")
    assert (who.org, who.role, who.scope, who.orgs) == (None, Role.USER, Scope(), frozenset())
    assert who.authorization == f"Bearer {token}"
    assert token not in repr(who)


async def test_claims_count_only_where_the_settings_name_them(issuer: IssuerUnderTest) -> None:
    said = {
        "organisation": "acme",
        "email": "ann@acme.example",
        "roles": ["guest", "operator", "user"],
        "uses": "github fetch/get_*",
        "not": ["github/delete_*"],
        "tenants": ["globex"],
        "role": "admin",
        "org": "initech",
    }
    names = {
        "org": "organisation",
        "user": "email",
        "role": "roles",
        "allow": "uses",
        "deny": "not",
        "orgs": "tenants",
    }

    async with taking(issuer.settings(claims=names)) as tokens:
        who = (await tokens.credential(issuer.token(**said))).principal
    async with taking(issuer.settings()) as tokens:
        unnamed = (await tokens.credential(issuer.token(**said))).principal

    assert (who.org, who.user, who.role) == ("acme", "ann@acme.example", Role.OPERATOR)
    assert who.scope == Scope(("github", "fetch/get_*"), ("github/delete_*",))
    assert who.orgs == {"globex"}
    assert (unnamed.org, unnamed.role, unnamed.scope) == (None, Role.USER, Scope())


@pytest.mark.parametrize("said", [{}, {"o": None}, {"o": ""}, {"o": ["acme"]}, {"o": 7}])
async def test_a_token_without_its_organisation_is_not_one_of_everybody(
    issuer: IssuerUnderTest, said: dict[str, Any]
) -> None:
    names = {"org": "o", "role": "r"}

    async with taking(issuer.settings(claims=names)) as tokens:
        assert await refusal(tokens, issuer.token(r="admin", **said)) is CredentialInvalid


@pytest.mark.parametrize(
    "said", [{}, {"role": "root"}, {"role": 3}, {"role": ["x"]}, {"role": "Admin"}]
)
async def test_a_role_that_is_none_of_ours_is_the_least(
    issuer: IssuerUnderTest, said: dict[str, Any]
) -> None:
    async with taking(issuer.settings(claims={"role": "role", "allow": "uses"})) as tokens:
        who = (await tokens.credential(issuer.token(**said))).principal

    assert who.role is Role.USER
    assert who.scope == Scope(()), "a claim that is missing permits nothing"


# -- what is not taken ----------------------------------------------------------------------------


def hmac_with(secret: bytes) -> str:
    """Signed with what everybody knows, by hand: a good library refuses."""
    signed = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(claims())}"
    digest = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


def hmac_with_public_key(issuer: IssuerUnderTest) -> str:
    return hmac_with(issuer.key.as_pem(private=False))


def critical(issuer: IssuerUnderTest) -> str:
    """Has a header that has to be understood, and that nobody does."""
    head = encoded({"alg": "RS256", "kid": "first", "crit": ["x"], "x": 1})
    signed = f"{head}.{encoded(claims())}"
    assert issuer.key.private_key is not None
    signature = issuer.key.private_key.sign(signed.encode(), PKCS1v15(), SHA256())
    return f"{signed}.{urlsafe_b64encode(signature).decode().rstrip('=')}"


def hmac_with_jwks_key(issuer: IssuerUnderTest) -> str:
    modulus = str(issuer.key.as_dict()["n"])
    return sign(jwk.OctKey.import_key(modulus), claims(), alg="HS512", kid="first")


def embedded_key(_: IssuerUnderTest) -> str:
    own = make_key()
    return sign(own, claims(), jwk=own.as_dict(private=False), kid="first")


def swapped_payload(issuer: IssuerUnderTest) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{encoded(claims(sub='root'))}.{signature}"


FORGED: dict[str, Callable[[IssuerUnderTest], str]] = {
    "unsigned": lambda _: sign(None, claims(), alg="none"),
    "unsigned, spelt otherwise": lambda _: f"{encoded({'alg': 'nOnE'})}.{encoded(claims())}.",
    "without alg": lambda _: f"{encoded({})}.{encoded(claims())}.",
    "alg is a list": lambda _: f"{encoded({'alg': ['RS256']})}.{encoded(claims())}.AAAA",
    "HMAC with the public key": hmac_with_public_key,
    "HMAC with the modulus": hmac_with_jwks_key,
    "another's key under this kid": lambda _: sign(make_key(), claims()),
    "brings its own key": embedded_key,
    "another algorithm of the same key": lambda it: sign(it.key, claims(), alg="PS256"),
    "an unknown kid": lambda it: sign(it.key, claims(), kid="second"),
    "kid is a path": lambda it: sign(it.key, claims(), kid="../../dev/null"),
    "unknown critical header": critical,
    "other claims under the signature": swapped_payload,
    "signature cut off": lambda it: it.token().rpartition(".")[0] + ".",
    "another issuer": lambda it: it.token(iss="https://evil.example"),
    "its issuer and a slash": lambda it: it.token(iss=ISSUER + "/"),
    "no issuer": lambda it: it.token(iss=None),
    "another audience": lambda it: it.token(aud="https://other.example"),
    "no audience": lambda it: it.token(aud=None),
    "audience that contains ours": lambda it: it.token(aud=AUDIENCE + ".evil"),
    "audience of numbers": lambda it: it.token(aud=[1, AUDIENCE]),
    "never expires": lambda it: it.token(exp=None),
    "expires at no time": lambda it: it.token(exp="tomorrow"),
    "expires after the end of time": lambda it: it.token(exp=float("nan")),
    "not before an hour": lambda it: it.token(nbf=int(time.time()) + 3600),
    "issued in an hour": lambda it: it.token(iat=int(time.time()) + 3600),
    "nobody's": lambda it: it.token(sub=None),
    "somebody without a name": lambda it: it.token(sub=""),
    "subject is an object": lambda it: it.token(sub={"a": 1}),
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "no base64": lambda _: "a.b.c",
    "deep": lambda _: f"{encoded({'alg': 'RS256'})}.{'W1tb' * 2000}.AAAA",
    "huge": lambda it: it.token(x="x" * LONGEST),
    "no ASCII": lambda _: "\u00e9\u00e9.\u00e9.\u00e9",
    "a key of ours": lambda _: "tk_" + "a" * 12 + "_" + "a" * 52,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
async def test_what_its_issuer_has_not_signed_for_us_is_refused(
    issuer: IssuerUnderTest, forge: Callable[[IssuerUnderTest], str]
) -> None:
    async with taking(issuer.settings()) as tokens:
        assert await refusal(tokens, issuer.token()) is None
        assert await refusal(tokens, forge(issuer)) is CredentialInvalid


async def test_a_public_key_is_good_for_its_own_signatures_alone() -> None:
    key = make_key()
    pem = key.as_pem(private=False)
    settings = TokenSettings(issuer=ISSUER, audience=(AUDIENCE,), public_key=pem.decode())

    async with taking(settings) as tokens:
        good = await refusal(tokens, sign(key, claims()))
        other = await refusal(tokens, sign(make_key(), claims()))
        shared = await refusal(tokens, hmac_with(pem))

    assert (good, other, shared) == (None, CredentialInvalid, CredentialInvalid)


async def test_clocks_may_differ_and_no_more(issuer: IssuerUnderTest) -> None:
    now = int(time.time())

    async with taking(issuer.settings(skew=60)) as tokens:
        late = await refusal(tokens, issuer.token(exp=now - 30))
        early = await refusal(tokens, issuer.token(nbf=now + 30, iat=now + 30))
        too_late = await refusal(tokens, issuer.token(exp=now - 90))
        too_early = await refusal(tokens, issuer.token(nbf=now + 90))
    async with taking(issuer.settings(skew=0)) as tokens:
        exact = await refusal(tokens, issuer.token(exp=now - 1))

    assert (late, early) == (None, None)
    assert (too_late, too_early, exact) == (CredentialExpired, CredentialInvalid, CredentialExpired)


async def test_a_token_lacks_a_scope_or_has_it(issuer: IssuerUnderTest) -> None:
    async with taking(issuer.settings(required_scopes=("mcp", "tools"))) as tokens:
        lacking = await refusal(tokens, issuer.token(scope="mcp"))
        having = await refusal(tokens, issuer.token(scope="tools other mcp"))
        listed = await refusal(tokens, issuer.token(scp=["tools", "mcp"]))

    assert (lacking, having, listed) == (ScopeInsufficient, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"audience": []},
        {"public_key": "-----BEGIN PUBLIC KEY-----"},
        {"jwks_url": None},
        {"jwks_url": None, "introspection_url": "https://issuer.example/introspect"},
        {"skew": 3600},
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(wrong: dict[str, Any]) -> None:
    good = {"issuer": ISSUER, "audience": [AUDIENCE], "jwks_url": "https://issuer.example/jwks"}

    assert TokenSettings.model_validate(good)
    with pytest.raises(ValidationError):
        TokenSettings.model_validate(good | wrong)


async def test_a_public_key_that_is_none_is_said_at_the_start() -> None:
    settings = TokenSettings(issuer=ISSUER, audience=(AUDIENCE,), public_key="ssh-rsa AAAA")

    with pytest.raises(SettingsInvalid, match="TRUNKLINE_AUTH__TOKENS"):
        await Tokens([settings]).prepare()


# -- several at once ------------------------------------------------------------------------------


async def test_several_issuers_stand_side_by_side(issuer: IssuerUnderTest) -> None:
    async with issuing() as other:
        second = other.settings(issuer="https://second.example", claims={"org": "org"})
        narrow = issuer.settings(audience=("narrow",))
        async with taking(narrow, issuer.settings(), second) as tokens:
            ours = await tokens.credential(issuer.token())
            theirs = await tokens.credential(other.token(iss="https://second.example", org="acme"))
            crossed = await refusal(tokens, other.token())

    assert (ours.principal.org, theirs.principal.org) == (None, "acme")
    assert theirs.principal.user == "https://second.example#ann"
    assert crossed is CredentialInvalid


async def test_a_new_key_of_the_issuer_is_found(issuer: IssuerUnderTest) -> None:
    second = make_key("second")

    async with taking(issuer.settings(), refresh=0) as tokens:
        await tokens.credential(issuer.token())
        issuer.others.append(second)
        assert await refusal(tokens, sign(second, claims(sub="bob"))) is None


async def test_unknown_keys_do_not_make_us_a_nuisance_to_the_issuer(
    issuer: IssuerUnderTest,
) -> None:
    async with taking(issuer.settings()) as tokens:
        for number in range(30):
            token = sign(issuer.key, claims(), kid=f"k{number}")
            assert await refusal(tokens, token) is CredentialInvalid

    assert len(issuer.asked) == 1


# -- an issuer that is away -----------------------------------------------------------------------


async def test_an_issuer_that_is_away_is_not_the_fault_of_its_tokens(
    issuer: IssuerUnderTest,
) -> None:
    issuer.status = 500
    token = issuer.token()

    async with taking(issuer.settings(), refresh=0) as tokens:
        assert await refusal(tokens, token) is IdentityUnavailable
        issuer.status = 200
        assert await refusal(tokens, token) is None


async def test_an_issuer_that_hangs_has_a_deadline_and_holds_up_nobody_else(
    issuer: IssuerUnderTest,
) -> None:
    async with issuing() as other:
        issuer.held = asyncio.Event()
        second = other.settings(issuer="https://second.example")
        async with taking(issuer.settings(timeout=0.2), second) as tokens:
            hanging = asyncio.ensure_future(refusal(tokens, issuer.token()))
            async with asyncio.timeout(10):
                theirs = await refusal(tokens, other.token(iss="https://second.example"))
                assert await hanging is IdentityUnavailable

    assert theirs is None


# -- what is remembered ---------------------------------------------------------------------------


async def test_a_token_is_verified_once_and_makes_one_principal(issuer: IssuerUnderTest) -> None:
    token = issuer.token()

    async with taking(issuer.settings()) as tokens:
        first = await tokens.credential(token)
        assert tokens.known(token) is first
        assert await tokens.credential(token) is first


async def test_a_token_that_is_looked_at_again_stays_the_same_somebody(
    issuer: IssuerUnderTest,
) -> None:
    token = issuer.token()

    async with taking(issuer.settings(), remembered=0) as tokens:
        first = await tokens.credential(token)
        assert tokens.known(token) is None
        assert await tokens.credential(token) is first


async def test_a_token_is_not_remembered_beyond_its_end(issuer: IssuerUnderTest) -> None:
    token = issuer.token(exp=int(time.time()) + 3)

    async with taking(issuer.settings(skew=0)) as tokens:
        await tokens.credential(token)
        async with asyncio.timeout(10):
            while tokens.known(token) is not None:  # noqa: ASYNC110 - time has to pass
                await asyncio.sleep(0.05)
        assert await refusal(tokens, token) is CredentialExpired


async def test_what_is_remembered_is_bounded(issuer: IssuerUnderTest) -> None:
    async with taking(issuer.settings(), most=3) as tokens:
        made = [issuer.token(jti=str(number)) for number in range(6)]
        for token in made:
            await tokens.credential(token)
            await tokens.credential(made[0])

        assert [tokens.known(token) is not None for token in made] == [
            True, False, False, False, True, True,
        ]  # fmt: skip


# -- tokens that the issuer is asked about --------------------------------------------------------


async def test_an_opaque_token_is_what_its_issuer_says(issuer: IssuerUnderTest) -> None:
    issuer.active["opaque"] = {"active": True, **claims(scope="mcp", org="acme")}
    issuer.active["foreign"] = {"active": True, **claims(aud="https://other.example")}
    issuer.active["lacking"] = {"active": True, **claims(scope="other")}
    issuer.active["theirs"] = {"active": True, **claims(scope="mcp", iss="https://other.example")}
    settings = issuer.asked_settings(required_scopes=("mcp",), claims={"org": "org"})

    async with taking(settings) as tokens:
        who = (await tokens.credential("opaque")).principal
        refused = [
            await refusal(tokens, token) for token in ("unknown", "foreign", "lacking", "theirs")
        ]

    assert (who.org, who.subject) == ("acme", f"token:{ISSUER}#ann")
    assert refused == [CredentialInvalid, CredentialInvalid, ScopeInsufficient, CredentialInvalid]


async def test_a_token_of_somebody_else_is_not_shown_to_an_issuer(issuer: IssuerUnderTest) -> None:
    foreign = sign(make_key(), claims(iss="https://other.example"))

    async with taking(issuer.asked_settings()) as tokens:
        assert await refusal(tokens, foreign) is CredentialInvalid

    assert issuer.asked == []


async def test_a_token_that_its_issuer_takes_back_ends(issuer: IssuerUnderTest) -> None:
    issuer.active["opaque"] = {"active": True, **claims()}

    async with taking(issuer.asked_settings(), remembered=0) as tokens:
        credential: Credential = await tokens.credential("opaque")
        del issuer.active["opaque"]
        assert await refusal(tokens, "opaque") is CredentialInvalid

    assert credential.is_over


async def test_an_issuer_that_does_not_answer_refuses_nobody_for_good(
    issuer: IssuerUnderTest,
) -> None:
    issuer.active["opaque"] = {"active": True, **claims()}

    async with taking(issuer.asked_settings(), remembered=0) as tokens:
        credential = await tokens.credential("opaque")
        issuer.status = 503
        assert await refusal(tokens, "opaque") is IdentityUnavailable
        issuer.status = 200
        assert await tokens.credential("opaque") is credential
        assert not credential.is_over
