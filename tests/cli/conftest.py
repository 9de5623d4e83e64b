"""What the tests of the commands share."""

import pytest

from etude.cli import main


@pytest.fixture
def etude(capsys):
    """Runs a command as the console script does: exit code, standard output, standard error."""

    def run(*arguments):
        return main(list(arguments)), *capsys.readouterr()

    return run
