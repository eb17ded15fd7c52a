"""
A process of its own that wants Ada's token, so that two can want it at once.

    python -m tests.security.oauth_worker DSN HOME URL

Reads a line and answers with the token, as often as it is asked; ends with stdin.
"""

import asyncio
import sys
from pathlib import Path

from tests.security.oauth_world import process
from trunkline import logs
from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.downstream.server_config import ServerConfig


async def main(dsn: str, home: Path, url: str) -> None:
    logs.configure("critical")  # to stderr: stdout is for the answers
    mail = ServerConfig(name="mail", transport="streamable-http", url=url, oauth=OAuthConfig())
    async with process(dsn, home, {mail.id: mail}) as own:
        await own.database.wait_available(20)
        say("ready")
        while await asyncio.to_thread(sys.stdin.readline):
            tokens = await asyncio.gather(
                *(own.oauth.token(None, "ada", mail, None) for _ in range(20))
            )
            say(*set(tokens))


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
