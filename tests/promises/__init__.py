"""One file per promise of the design, against real processes and a recording stand-in cloud."""
