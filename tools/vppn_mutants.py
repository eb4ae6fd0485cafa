"""The security checks of powertcp/vppn, each with the text that removes it and the tests that tell.

`tools/mutate_vppn.py` applies them one at a time.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One check. file: in powertcp. before: its text, found once. after: without it."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


# file: tests that show it, then (name, before, after) of each check
_TABLE: dict[str, tuple[tuple[str, ...], list[tuple[str, str, str]]]] = {
    "vppn/noise.py": (
        ("unit/vppn/test_noise", "unit/vppn/test_session"),
        [
            ("the last counter is not used", "if counter >= COUNTER_LIMIT:", "if False:"),
            ("counters rise", "self.counter = counter + 1", "self.counter = counter"),
            (
                "messages have a limit",
                "if len(message) > MESSAGE_LIMIT:\n            raise DecodeError(",
                "if False:\n            raise DecodeError(",
            ),
            (
                "a broken handshake stays broken",
                "        self._is_broken = True\n        return self._protocol",
                "        return self._protocol",
            ),
            (
                "no hybrid without ML-KEM",
                "if protocol.is_hybrid and not crypto.HAS_KEM:",
                "if False:",
            ),
            (
                "the ciphertext is hashed",
                "ciphertext = self._symmetric.unseal_and_hash(self._cut(message, at, end))",
                "ciphertext = self._symmetric.unseal_and_hash(self._cut(message, at, end))[:0]",
            ),
            (
                "the prologue names the pattern",
                "return PROLOGUE + bytes([pattern]) + previous_hash",
                "return PROLOGUE + previous_hash",
            ),
            (
                "the prologue names the epoch before",
                "return PROLOGUE + bytes([pattern]) + previous_hash",
                "return PROLOGUE + bytes([pattern])",
            ),
            (
                "keys have 32 octets",
                "or any(len(key) != KEY_OCTETS for key in given)",
                "",
            ),
        ],
    ),
    "crypto.py": (
        ("unit/vppn/test_noise", "unit/vppn/test_session"),
        [
            (
                "points of low order are refused",
                "        except ValueError as error:\n"
                '            raise DecodeError(0, "key", DECRYPT, KEY_OCTETS, KEY_OCTETS) from error',
                "        except ValueError:\n            return bytes(32)",
            ),
        ],
    ),
    "vppn/record.py": (
        ("unit/vppn/test_record", "unit/vppn/test_epochs"),
        [
            ("counters are in order", "if counter != self._cipher.counter:", "if False:"),
            (
                "the flags are authenticated",
                "clear = flags & ~_ECE\n        head",
                "clear = 0\n        head",
            ),
            (
                "ECE alone may change",
                "        clear = flags & ~_ECE\n",
                "        clear = flags\n",
            ),
            (
                "flow and ESN are authenticated",
                "kind, clear, len(payload), flow, esn)\n        plain",
                "kind, clear, len(payload), 1, 7)\n        plain",
            ),
            ("padding is zeros", "if any(plain[at:]):", "if False:"),
            (
                "segments are whole",
                "        if end > size:\n            raise",
                "        if False:\n            raise",
            ),
            (
                "no seal within a seal",
                "if kind == _SEALED:\n            raise",
                "if False:\n            raise",
            ),
            ("police holds one flow", "flow != outer_flow or (not start", "False or (not start"),
            ("police shows the first ESN", "(not start and esn != outer_esn)", "False"),
            (
                "private shows flow 0",
                "if not is_police and (outer_flow or outer_esn != PRIVATE_ESN):",
                "if not is_police and outer_esn != PRIVATE_ESN:",
            ),
            (
                "private shows an ESN of ones",
                "if not is_police and (outer_flow or outer_esn != PRIVATE_ESN):",
                "if not is_police and outer_flow:",
            ),
            ("nothing is no record", "if not stop:\n        raise", "if False:\n        raise"),
            ("ECE reaches the data", "if is_marked and kind == _DATA:", "if False:"),
            ("an epoch ends by segments", "if segments >= self.segments:", "if False:"),
            ("an epoch ends by octets", "if octets >= self.octets:", "if False:"),
            ("what does not fit is not cut", "if end - start > MAX_PLAIN:", "if False:"),
            (
                "private is padded",
                'sealer.seal(plain.ljust(size, b"\\0"), 0, PRIVATE_ESN)',
                "sealer.seal(plain, 0, PRIVATE_ESN)",
            ),
            (
                "inner headers are checked",
                "        if head != _PLAIN:\n            _check_inner(head, at)",
                "",
            ),
            (
                "there is a SEAL",
                "    if seal is None:\n        raise",
                "    if seal is None:\n        return Seal(0, 0)\n        raise",
            ),
        ],
    ),
    "vppn/message.py": (
        ("unit/vppn/test_message",),
        [
            (
                "one form of the options",
                "if options.seal is None or bytes(raw[4]) != _area(options.seal.epoch, options.cookie):",
                "if options.seal is None:",
            ),
            ("flow and ESN are 0", "if raw[2] or raw[3]:", "if False:"),
            ("the octet after the pattern is 0", "or octets[1] or octets[0]", "or octets[0]"),
            ("certificates have a limit", "if length > MAX_OCTETS or end", "if end"),
            ("certificates are whole", "MAX_OCTETS or end > len(octets):", "MAX_OCTETS:"),
            ("no padding in a message", "if stop != len(plain):", "if False:"),
            ("no seal in a message", "if kind == _SEALED:", "if False:"),
        ],
    ),
    "vppn/office.py": (
        ("unit/vppn/test_office", "unit/vppn/test_session_early"),
        [
            (
                "clocks are near",
                "abs(said_ns - unix_ns) <= CLOCKS_APART_NS\n            and ",
                "",
            ),
            ("nothing from before the start", "and said_ns > self.started_ns", ""),
            ("no ephemeral key twice", "and ephemeral not in seen", ""),
            ("the register has a limit", "and len(seen) < REMEMBERED_MAX", ""),
            ("one early SYN at a time", "if who in self._early:", "if False:"),
            (
                "cookies under load",
                "return self.half_open >= HALF_OPEN_COOKIE",
                "return False",
            ),
            ("closed when full", "return self.half_open >= HALF_OPEN_REFUSE", "return False"),
        ],
    ),
    "vppn/epochs.py": (
        ("unit/vppn/test_epochs",),
        [
            ("only agreed epochs", "if seal.epoch != epoch.number:", "if False:"),
            ("an epoch ends by age", "if age >= limit:", "if False:"),
            (
                "the timer looks at the age",
                "            for epoch in self._pair():\n                self._check(epoch, now)",
                "            pass",
            ),
            (
                "receiving only rises",
                "self._receiving, self._coming = epoch, None",
                "self._receiving, self._coming = receiving, coming",
            ),
            (
                "the age is looked at when sealing",
                "        self._check(sending, now)\n        return",
                "        return",
            ),
            (
                "the age is looked at when opening",
                "        self._check(epoch, now)\n        plain",
                "        plain",
            ),
        ],
    ),
    "vppn/session.py": (
        (
            "unit/vppn/test_session",
            "unit/vppn/test_session_early",
            "unit/vppn/test_session_rekey",
        ),
        [
            (
                "classic needs our consent",
                "if is_initiator and config.pattern.is_classic and not config.allow_classic:",
                "if False:",
            ),
            ("classic needs their consent", "if not is_taken:", "if False:"),
            (
                "5 s for a handshake",
                "if self._opening_until is not None and now >= self._opening_until:",
                "if False:",
            ),
            (
                "stealth is mute",
                "is_hidden = self.config.stealth and not self.is_confirmed",
                "is_hidden = False",
            ),
            ("one cookie is taken", "and not self._cookie_used\n", "\n"),
            (
                "no cookie unasked",
                "if (office is None or not self._cookie_used) and given is not None:",
                "if False:",
            ),
            (
                "cookies are checked",
                "if office.cookies.has_cookie(given, self.peer, 0, octets, now):",
                "if True:",
            ),
            (
                "no certificate without a key",
                "if payload.certificate and self._static is None:",
                "if False:",
            ),
            (
                "one SYN in message 1",
                "if self._is_delayed or first_syn(plain) != plain:",
                "if self._is_delayed:",
            ),
            (
                "no power in message 1 of xk",
                "if self._is_delayed or first_syn(plain) != plain:",
                "if first_syn(plain) != plain:",
            ),
            (
                "copies are dropped",
                "if self._early and plain.startswith(self._early):",
                "if False:",
            ),
            ("the static key stays", "if handshake.remote_static != self._static:", "if False:"),
            ("two rekeys in a row", "if self._rekeys_until > now + gap_ns:", "if False:"),
            ("the pattern stays", "if pattern is not self.config.pattern:", "if False:"),
            (
                "epochs one after the other",
                "if not self.channel.has_heard or epoch != next_epoch(self.channel.epoch):",
                "if not self.channel.has_heard:",
            ),
            (
                "epochs are used before the next one",
                "if not self.channel.has_heard or epoch != next_epoch(self.channel.epoch):",
                "if epoch != next_epoch(self.channel.epoch):",
            ),
            (
                "answers to what was given up are dropped",
                "        if self._abandoned:\n            self._abandoned -= 1\n            return\n",
                "",
            ),
            (
                "nothing in clear",
                'raise DecodeError(4, "type", Reason.SEAL_REQUIRED, raw[0], _SEALED)',
                'return b""',
            ),
            (
                "the hash of the epoch before is mixed",
                'before = self._hash if epoch else b""',
                'before = b""',
            ),
            ("half-done handshakes are counted", "self.office.half_open += 1", "pass"),
        ],
    ),
    "vppn/tunnel.py": (
        ("unit/vppn/test_tunnel", "unit/vppn/test_session"),
        [
            (
                "stealth is deaf",
                "        if session.config.stealth and not session.has_begun and error.code != Reason.TIMEOUT:\n"
                "            self._mode = _Mode.DEAF\n            return\n",
                "",
            ),
            (
                "stealth is never clear",
                "self._may_be_clear = may_be_clear and not session.config.stealth",
                "self._may_be_clear = may_be_clear",
            ),
            ("clear only where that is allowed", "elif not self._may_be_clear:", "elif False:"),
            (
                "nothing queued goes out after a fault",
                "            while inner.data_to_send():\n                pass\n",
                "            return inner.data_to_send() + session.take_out()\n",
            ),
            (
                "a fault cuts the connection",
                "        self._inner.cut(refusal, now)\n",
                "",
            ),
            (
                "the clock does not go back",
                "if now < self._now:",
                "if False:",
            ),
        ],
    ),
    "vppn/signed.py": (
        ("unit/vppn/test_signed", "unit/vppn/test_certificate", "unit/vppn/test_revocation"),
        [
            (
                "signatures are verified",
                "if not is_signed_by(issuer.octets, prefix + covered, signature):",
                "if False:",
            ),
            ("the signature ends the text", 'if self._lines[self._next :] != [""]:', "if False:"),
            ("a text is not valid for longer", "if validity_s > most_s:", "if False:"),
            (
                "each line is in its place",
                'if not line.startswith(f"{word} "):',
                "if False:",
            ),
        ],
    ),
    "vppn/certificate.py": (
        ("unit/vppn/test_certificate",),
        [
            (
                "a certificate ends",
                "    if wrong := wrong_validity(not_before_s,",
                "    if False and (wrong := 0,",
            ),
        ],
    ),
    "vppn/access.py": (
        ("unit/vppn/test_access",),
        [
            (
                "a certificate is for one key",
                "if certificate.subject != applicant.key:",
                "if False:",
            ),
            (
                "keys are revoked",
                "if refusal := revocations.judge_key(applicant.key, issuers):",
                "if refusal := None:",
            ),
            (
                "certificates have their time, lists are looked at",
                "if refusal := judge_time(certificate, now_s) or revocations.judge(certificate, now_s):",
                "if refusal := None:",
            ),
            ("lines that deny", "if not rule.is_denied:", "if True:"),
            (
                "lines expire",
                "if limits.expires_s is not None and limits.expires_s <= now_s:",
                "if False:",
            ),
            ("networks", "if not limits.allows_from(applicant.address):", "if False:"),
            ("a certificate narrows", "limits = rights.limits.within(own)", "limits = own"),
            ("certificates end", "    if after_s <= now_s:", "    if False:"),
            ("certificates begin", "    if now_s < before_s:", "    if False:"),
        ],
    ),
    "vppn/revocation.py": (
        ("unit/vppn/test_revocation",),
        [
            (
                "certificates are revoked",
                "if line := each.line_of_serial(certificate.serial):",
                "if line := 0:",
            ),
            ("lists of trusted issuers only", "if each.issuer in trusted and (", "if True and ("),
            ("serials rise", "if serials and serial <= serials[-1]:", "if False:"),
        ],
    ),
    "vppn/identity.py": (
        ("unit/vppn/test_identity",),
        [
            (
                "one text for one key",
                "if len(found) != octets or encode_base64(found) != text:",
                "if False:",
            ),
            ("keys of the right kind", "if not colon or name not in wanted:", "if not colon:"),
        ],
    ),
    "reclaim/track.py": (
        ("unit/reclaim/test_relay", "unit/reclaim/test_track"),
        [
            (
                "a SYN comes again only if it was sent back",
                "flow.is_sent_back and options.cookie is not None",
                "options.cookie is not None",
            ),
            (
                "a wish that is rejected is held no more",
                "        flow.asks = flow.asked_before\n",
                "        pass\n",
            ),
        ],
    ),
    "reclaim/relay.py": (
        ("unit/reclaim/test_relay",),
        [
            (
                "a SYN that is refused leaves no flow",
                "            leg.events.append(FlowLeft(flow=flow, refusal=None))\n",
                "",
            ),
            (
                "terms that come into force are judged",
                "denial = self._judge(flow, (Ask(terms, None),), None)",
                "denial = None",
            ),
            (
                "terms that are taken are judged",
                "if what in (What.ACCEPTED, What.READY) and flow is not None:",
                "if what is What.READY and flow is not None:",
            ),
            (
                "goodbyes that are answered here are counted",
                "if not self.tracker.has_crossed(raw[2]):",
                "if False:",
            ),
            (
                "what is no flow's and is answered here is counted",
                "            if flow is None:\n                self._count(leg, now)\n",
                "",
            ),
            (
                "a handover is for the provider to say",
                "== (End.SERVER, Reason.HANDOVER)",
                "== (leg.end, Reason.HANDOVER)",
            ),
        ],
    ),
    "reclaim/attempt.py": (
        ("unit/reclaim/test_attempt",),
        [
            ("the next upstream hears it all", "self._leg.unsend(given)", "pass"),
            ("a word about no flow is no answer", "if raw[2]:", "if True:"),
            ("who does not answer has a bound", "len(self._heard) > HEARD_MAX", "False"),
        ],
    ),
    "reclaim/endings.py": (
        ("unit/reclaim/test_endings",),
        [
            (
                "a goodbye that never came leaves no flow",
                "for one in endings.values() if not one.is_asked]",
                "for one in endings.values() if False]",
            ),
        ],
    ),
    "cli/keys.py": (
        ("unit/cli/test_vppn",),
        [("key files are for their owner", "if mode & _OTHERS:", "if False:")],
    ),
}

MUTANTS = [
    Mutant(name, file, before, after, tuple(f"tests/{test}.py" for test in tests))
    for file, (tests, rows) in _TABLE.items()
    for name, before, after in rows
]
