"""python -m audiorep"""

from audiorep.cli import main

main()
