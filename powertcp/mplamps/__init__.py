"""Mostly Pointless Lamp Switching (RFC 3251): MPLS whose labels are volts, RSVP, COPS, circuits."""
