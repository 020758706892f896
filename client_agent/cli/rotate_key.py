"""letheon-agent rotate-key"""

from __future__ import annotations

from contextlib import ExitStack

from client_agent.adapters.state_dir import occupy
from client_agent.adapters.update_keys import UpdateKeys
from client_agent.cli.options import DEFAULT_CONFIG, ConfigOption
from client_agent.config import AgentConfig
from client_agent.enrolment import give_to_owner
from letheon.cli.screen import Format, FormatOption, print_document, say
from letheon.servicekit import config as configuration


def rotate_key(config: ConfigOption = DEFAULT_CONFIG, output: FormatOption = Format.TABLE) -> None:
    """Make a new key for what this site signs; the agent hands over to it at its next start.

    Stop the agent first. The present key signs the new one, so nobody at the coordinator needs to
    do anything. A key that was stolen is another matter: `letheon keys forget SITE`.
    """
    told = configuration.load(config, AgentConfig)
    with ExitStack() as closing:
        state = occupy(told.state_dir.absolute())
        closing.callback(state.release)
        closing.callback(give_to_owner, state.root)
        keys = UpdateKeys(state.update_key)
        made = keys.prepare()
    if output is Format.JSON:
        print_document({"present": keys.present.key_id, "next": made.key_id})
    else:
        say(
            f"Key {made.key_id} follows {keys.present.key_id} when the agent is started: "
            "start it now."
        )
