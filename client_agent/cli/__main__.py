"""`python -m client_agent.cli` is `letheon-agent`."""

from client_agent.cli.main import start

if __name__ == "__main__":
    start()
