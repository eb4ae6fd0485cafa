"""Things that watch connections from the middle: what is said, what is verified, who goes on."""
