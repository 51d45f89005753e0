"""``python -m kvmdiag``."""

from kvmdiag.commands.main import run

if __name__ == "__main__":
    run()
