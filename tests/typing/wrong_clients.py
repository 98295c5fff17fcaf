"""What type checkers refuse of the clients; as wrong.py. Never run."""

from __future__ import annotations

from tq import AsyncClient, Client, TaskSpec


def blocking(client: Client) -> None:
    client.submit("t", colour="red")  # error: call-arg, reportCallIssue
    client.submit("t", priority="high")  # error: arg-type, reportArgumentType
    client.submit_many([TaskSpec("t")], True)  # error: call-arg, reportCallIssue
    client.get()  # error: call-arg, reportCallIssue
    client.wait("x", timeout="5")  # error: arg-type, reportArgumentType
    client.list(colour="red")  # error: call-arg, reportCallIssue
    client.register_worker(["t"]).complete("x")  # error: arg-type, reportArgumentType
    client.get("x").colour  # error: attr-defined, reportAttributeAccessIssue  # noqa: B018


async def awaited(client: AsyncClient) -> None:
    client.submit("t")  # error: unused-coroutine, reportUnusedCoroutine
    await client.submit("t", colour="red")  # error: call-arg, reportCallIssue
    (await client.submit("t")).colour  # error: attr-defined, reportAttributeAccessIssue  # noqa: B018
    for _ in client.events():  # error: attr-defined, reportGeneralTypeIssues
        pass
