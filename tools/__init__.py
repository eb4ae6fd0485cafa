"""Tools that build, check, measure and explain this project; none of them is installed."""
