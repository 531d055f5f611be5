"""`python -m transvae_platform` is the command `transvae`."""

from transvae_platform.cli.main import main

main()
