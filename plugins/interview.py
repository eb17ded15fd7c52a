"""
Interview: asks a person a few questions and has the client's model sum up the answers.

Copy this one for a tool that talks while it works: it reports progress, writes to the client's
log, asks the user (elicitation) and lets the client's own model think (sampling). A client need
not know any of these, so a tool that uses them says what it does without.
"""

from fastmcp import Context
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import SamplingMessage, TextContent

from trunkline import Plugin

plugin = Plugin("interview", summary="Asks the user a few questions and sums up the answers.")

QUESTIONS = (
    "What is it about?",
    "What have you tried?",
    "What would a good result look like?",
)


@plugin.tool
async def interview(topic: str, ctx: Context) -> str:
    """Ask the user three questions about *topic* and return a summary of what they said."""
    answers: list[str] = []
    for number, question in enumerate(QUESTIONS):
        await ctx.report_progress(number, len(QUESTIONS), question)
        answers.append(f"{question} {await ask(topic, question, ctx)}")
    await ctx.report_progress(len(QUESTIONS), len(QUESTIONS), "Summing up")
    await ctx.info(f"{len(answers)} answers about {topic}")
    return await sum_up(topic, answers, ctx)


async def ask(topic: str, question: str, ctx: Context) -> str:
    """One question. The user may decline it, or end the whole interview."""
    try:
        answer = await ctx.elicit(f"{topic}: {question}", response_type=str)
    except MCPError as error:
        raise ToolError(f"This client cannot ask its user: {error}") from error
    match answer.action:
        case "accept":
            return answer.data
        case "decline":
            return "(no answer)"
        case _:
            raise ToolError("The user ended the interview.")


async def sum_up(topic: str, answers: list[str], ctx: Context) -> str:
    """Let the client's model do it, or give the answers as they are."""
    notes = "\n".join(answers)
    question = TextContent(type="text", text=f"Sum up this interview about {topic}:\n{notes}")
    try:
        # The newest protocol has no sampling any more; there is no other way to ask a model.
        reply = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
            [SamplingMessage(role="user", content=question)],
            max_tokens=300,
            related_request_id=ctx.request_id,
        )
    except MCPError as error:
        await ctx.warning(f"No model to sum up with ({error}): these are the answers.")
        return notes
    return reply.content.text if isinstance(reply.content, TextContent) else notes
