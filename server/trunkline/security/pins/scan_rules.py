"""
What descriptions say that are written for the model and against its user.

The classes are those of the published attacks: tool poisoning and cross-server shadowing (Invariant
Labs, 2025), poisoned schemas (CyberArk, 2025), parameters that ask for the conversation
(HiddenLayer, 2025). Each rule names a few letters that it cannot match without: looking for those
first makes a scan twenty times as fast. Patterns are matched against text whose runs of white space
are single spaces, and no pattern can run longer than its bounds.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Severity(IntEnum):
    """How much a finding says."""

    LOW = 1
    """Honest descriptions say such things, too: shown to who looks at a tool."""

    MEDIUM = 2
    """Worth a look."""

    HIGH = 3
    """Nothing that an honest description needs."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that may be said."""

    kind: str
    severity: Severity
    why: str
    hints: tuple[tuple[str, ...], ...]
    """Lower case; a text that lacks every word of one group cannot match."""

    pattern: re.Pattern[str]


def _rule(kind: str, severity: Severity, why: str, hints: str, *patterns: str) -> Rule:
    """*hints* are words with `|` between them, in groups with `&` between them."""
    groups = tuple(tuple(group.split("|")) for group in hints.split("&"))
    return Rule(kind, severity, why, groups, re.compile("|".join(patterns), re.IGNORECASE))


_FILES = (
    r"(?:\.ssh\b|id_(?:rsa|dsa|ecdsa|ed25519)|\.aws/credentials|/etc/(?:passwd|shadow)|\.netrc\b"
    r"|\.npmrc\b|\.pypirc\b|\.git-credentials|\.kube/config|\.gnupg\b|\bkeychain\b|\blogin data\b"
    r"|\.cursor/mcp\.json|claude_desktop_config|(?<![\w.-])(?:~/)?\.?mcp\.json"
    r"|(?<![\w\"'`./~])[\w./~]{0,40}\.env\b|\bprivate keys?\b|\bssh keys?\b|\.bash_history"
    r"|wallet\.dat)"
)
_FILE_HINTS = (
    ".ssh|id_rsa|id_dsa|id_ec|id_ed|.aws|/etc/|.netrc|.npmrc|.pypirc|.git-c|.kube|.gnupg"
    "|keychain|login data|mcp.json|claude_desktop|.env|private key|ssh key|.bash_h|wallet.dat"
)
_TAKE = (
    r"\b(?:read|open|cat|fetch|get|load|access|include|send|pass|upload|attach|provide|copy|append"
    r"|contents? (?:of|from)|put|insert|supply|forward|post|encode|collect|extract)\b"
)
_GIVE = (
    r"\b(?:include|pass|send|provide|append|attach|forward|copy|put|insert|share|supply|submit)\b"
)

RULES: Final[Sequence[Rule]] = (
    _rule(
        "override",
        Severity.HIGH,
        "It tells the model to set aside what it was told before.",
        "ignore|disregard|forget|override|bypass|you are now|from now on|instructions:"
        "&you|instruction|prompt|guideline|directive|guardrail|constraint|safety|every|all",
        r"\b(?:ignore|disregard|forget|override|bypass)\b[^.]{0,30}"
        r"\b(?:previous|prior|above|earlier|preceding|other|system|safety|your|all)\b[^.]{0,20}"
        r"\b(?:instructions?|prompts?|guidelines|directives|guardrails|constraints|safety rules)\b",
        r"\byou are now (?:an?|the|in|no longer)\b",
        r"\bfrom now on,? (?:you|always|every|all)\b",
        r"\b(?:new|updated|real|actual|hidden|secret) (?:system )?instructions:",
    ),
    _rule(
        "secrecy",
        Severity.HIGH,
        "It tells the model to keep something from the user.",
        "tell|inform|notify|mention|reveal|disclose|alert|warn|n't|not |hide|conceal|keep|secretly"
        "|covertly|silently|quietly&user|human|any|people|person|mention|need|secretly|covertly"
        "|silently|quietly",
        r"\b(?:do not|don'?t|never|must not|mustn'?t|should not|avoid|without)\b[^.]{0,20}"
        r"\b(?:tell|inform|notify|mention|reveal|disclose|alert|warn)(?:ing)?\b[^.]{0,30}"
        r"\b(?:users?|humans?|anyone|anybody|people|person)\b",
        r"\b(?:do not|don'?t|never|must not) (?:ever )?mention"
        r"(?: to [\w ]{1,20})? (?:this|that|it|these|any of)\b",
        r"\b(?:users?|humans?) (?:must|should|does|do|need|can|will|may) ?n[o']t (?:need to )?"
        r"(?:know|see|notice|be (?:told|aware|informed|shown|notified)|learn|find out)\b",
        r"\b(?:hide|conceal|keep)\b[^.]{0,30}\b(?:from|secret from) (?:the )?(?:users?|humans?)\b",
        r"\b(?:do not|don'?t|never|must not) (?:ever )?(?:show|display|expose)\b[^.]{0,20}"
        r"\bto (?:the )?(?:users?|humans?|anyone)\b",
        r"\bno need to (?:tell|inform|mention|notify)\b|\bneed not (?:know|be told)\b",
        r"\b(?:secretly|covertly|silently|quietly)\b[^.]{0,10}\b(?:send|read|cop(?:y|ie)|forward|call|run"
        r"|upload|include|append|add|execute)s?\b",
    ),
    _rule(
        "block",
        Severity.HIGH,
        "It has a block that is marked as if it came from somebody else than the server.",
        "<|[inst|[system|###|system:|hidden instruction",
        r"</?\s*(?:important|system|instructions?|secret|hidden|admin|assistant|prompt|critical"
        r"|override|sys|rules?|developer|user_?query)\b[^<>]{0,40}>",
        r"<\|\s?(?:im_start|im_end|system|user|assistant|endoftext)[^<>]{0,20}\|?>",
        r"\[/?(?:inst|system|sys)\]|<<\s?/?sys\s?>>",
        r"\bhidden instructions?\b|(?-i:\bSYSTEM:)",
        r"###\s?(?:system|instructions?|important|hidden)\b\s?:?",
    ),
    _rule(
        "secrets",
        Severity.HIGH,
        "It asks for a file or key that is nobody's business.",
        _FILE_HINTS,
        _TAKE + r"[^\n]{0,60}" + _FILES,
        r"content_from_reading|contents?_of_(?:ssh|env|passwd|file_path)",
    ),
    _rule(
        "secrets",
        Severity.MEDIUM,
        "It names a file or key that holds secrets.",
        _FILE_HINTS,
        _FILES,
    ),
    _rule(
        "credentials",
        Severity.MEDIUM,
        "It asks for credentials.",
        "api key|api_key|password|credential|tokens|secrets|environment var|cookies"
        "&your|user|all|any|local|stored|saved|every",
        r"\b(?:read|collect|find|gather|extract|send|include|pass|provide|dump|print|steal|append"
        r"|attach|upload|forward|prepend)\b"
        r"[^.]{0,30}\b(?:your|the user'?s|all|any|stored|saved|every|local)\s"
        r"(?:api[ _]keys?|passwords?|credentials|(?:access|auth|session) tokens?|secrets"
        r"|environment variables|cookies)\b",
    ),
    _rule(
        "conversation",
        Severity.HIGH,
        "It asks for the conversation, or for what the model was told.",
        "conversation|chat |context|prompt|messages|chain of|tool call|tool result|instructions"
        "|memory&include|pass|send|provide|append|attach|forward|copy|put|insert|share|supply|submit"
        "|argument|parameter",
        _GIVE + r"[^.]{0,50}(?:\b(?:conversation|chat) (?:history|context|so far|log|transcript)\b"
        r"|\b(?:entire|full|whole|complete|current|this) (?:conversation|chat|prompt)\b"
        r"|\b(?:all|the|every|any) (?:previous|prior|earlier|preceding) (?:messages?|tool (?:calls?"
        r"|results?|outputs?))|\bsystem prompt\b|\bchain of thought\b"
        r"|\byour (?:full |entire |complete )?(?:instructions|context|memory)\b)",
        r"\b(?:full|entire|whole|complete) (?:conversation|chat)\b[^.]{0,20}"
        r"\b(?:attached|included|appended|as an? (?:argument|parameter))\b",
    ),
    _rule(
        "conversation",
        Severity.MEDIUM,
        "It has a parameter that asks for what the model was told.",
        "system_prompt|systemprompt|history|chain_of_thought|reasoning_trace|all_messages|tool_calls",
        r"(?<!\S)(?:system_?prompt|(?:conversation|chat|message)_?history|chain_of_thought"
        r"|reasoning_trace|all_messages|(?:previous|all)_tool_calls|tool_?call_?history)(?!\S)",
    ),
    _rule(
        "recipient",
        Severity.HIGH,
        "It says where mail or messages are to go instead, or as well.",
        "mails|messages|every mail|each mail|every email|each email|bcc|blind copy|recipient|phone"
        "|address|each message|every message|any message|all mail|all e-mail|any email|any mail"
        "&@|+|must|should|have to|need|has to|are to|is to|shall",
        r"\b(?:all|every|each|any) (?:e-?mails?|messages?)\b[^.]{0,20}\b(?:must|should|have to"
        r"|need to|has to|are to|is to|shall) (?:also )?(?:be )?(?:sent|forwarded|redirected"
        r"|copied|go)\b",
        r"\b(?:send|forward|redirect|route|copy)\b[^.]{0,20}\b(?:all|every|any) (?:e-?mails?"
        r"|messages?)\b[^.]{0,20}\bto\b[^@+]{0,20}(?:[\w.+-]{1,64}@[\w-]+\.\w+|\+\d{6,})",
        r"\b(?:bcc|blind copy)\b[^.]{0,30}[\w.+-]{1,64}@[\w-]+\.\w+",
        r"\b(?:change|replace|set)\b[^.]{0,20}\b(?:the )?(?:recipient|phone ?number|address)\b"
        r"[^.]{0,20}\b(?:to|with)\b[^.]{0,20}(?:[\w.+-]{1,64}@[\w-]+\.\w+|\+\d{6,})",
    ),
    _rule(
        "presence",
        Severity.HIGH,
        "It claims to change other tools by being there.",
        "tool is|tool exists|server is",
        r"\b(?:when|while|if|as long as|since|because) this (?:tool|server|mcp) (?:is|exists)"
        r"(?: (?:available|present|enabled|loaded|installed|connected|active|listed))\b",
        r"\b(?:when|while) this tool exists\b",
    ),
    _rule(
        "precedence",
        Severity.MEDIUM,
        "It puts itself before, or in the place of, other tools.",
        "tool|must|should|has to|needs to&before|prior to|whenever|after|each time|every time|when"
        "|first|instead|rather|in place|replaces|supersedes|overrides|never|not use|not call"
        "|n't use|n't call|include|contain|begin|start|prefixed",
        r"\b(?:before|prior to|whenever|after|each time|every time|when)\b[^.]{0,15}"
        r"\b(?:using|calling|invoking|running|(?:you|the user) (?:use|call|run|invoke)s?)\b"
        r"[^.]{0,12}\b(?:any|every|all|another|each)\b[^.]{0,15}\btools?\b",
        r"\b(?:before|after|on|with) (?:every|each|any|all) (?:other )?tool (?:use|call|invocation"
        r"|run)s?\b",
        r"\b(?:all|every|any|each) (?:commands?|responses?|answers?|requests?|messages?) must\b"
        r"[^.]{0,12}\b(?:include|contain|begin|start|end|be prefixed)\b",
        r"\b(?:must|should|has to|needs to) (?:always )?be (?:called|used|run|invoked) (?:first"
        r"|before (?:any|every|each|all)\b)",
        r"\b(?:instead of|rather than|in place of) (?:any |all |every |the )?other tools?\b",
        r"\bthis tool (?:replaces|supersedes|overrides)\b",
        r"\b(?:do not|don'?t|never) (?:use|call) (?:any )?other tools?\b",
    ),
    _rule(
        "sending",
        Severity.HIGH,
        "It names a place that is there to catch what is sent to it.",
        "webhook.site|ngrok|requestbin|pipedream.net|interact.sh|oast|burpcollab|requestcatcher"
        "|beeceptor|hookbin|canarytokens",
        r"\b(?:webhook\.site|ngrok(?:-free)?\.(?:io|app|dev)|requestbin\.\w+"
        r"|pipedream\.net|interact\.sh|oast\.\w+|burpcollaborator\.net|requestcatcher\.com"
        r"|beeceptor\.com|hookbin\.com|canarytokens\.com)\b",
    ),
    _rule(
        "sending",
        Severity.MEDIUM,
        "It says that something is to be sent to an address it names.",
        "http|@&send|post|upload|forward|transmit|exfiltrate|leak|submit|append|![|?",
        r"\b(?:send|post|upload|forward|transmit|exfiltrate|leak|submit|append)\b[^.]{0,60}\bto\b"
        r"[^.]{0,20}(?:https?://(?!localhost|127\.|example\.)|[\w.+-]{1,64}@(?!example\.)[\w-]+\.\w+)",
        r"!\[[^\]]{0,80}\]\(https?://[^)\s]{0,300}[?&=]",
        r"https?://[^\s\"'<>]{1,200}[?&](?:data|d|q|exfil|leak|payload|content|secret|info)="
        r"[{<\[$%(]",
    ),
    _rule(
        "link",
        Severity.MEDIUM,
        "It has a link that holds its own content, or a program.",
        "data:|javascript:",
        r"\bdata:[a-z]{2,20}/[a-z0-9.+-]{2,40}[;,]\S",
        r"\bjavascript:\S",
    ),
    _rule(
        "comment",
        Severity.MEDIUM,
        "It has a comment, which a page would not show.",
        "<!--|[//]:",
        r"<!--.{0,400}",
        r"\[//\]: ?#.{0,200}",
    ),
    _rule(
        "insistence",
        Severity.LOW,
        "It insists on something; honest servers do so, too.",
        "must|important|always|mandatory|required to",
        r"\byou (?:must|are required to|have to)\b",
        r"\bimportant\b ?[:!]",
        r"\balways (?:call|use|run|invoke) this tool\b",
        r"\bmandatory\b",
    ),
)
