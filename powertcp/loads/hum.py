"""The received samples as sound: what mains hum is, in a WAV file or by a player of this host.

The voltage of the first pair is rectified (a coil pulls twice per cycle, so 50 Hz hums at 100),
freed of its mean, resampled to 8 kHz and played at a peak of -18 dBFS, with ramps of 300 ms.
Direct current is silent.
"""

import errno
import math
import shutil
import subprocess
import wave
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import trio

from powertcp.errors import HostError
from powertcp.loads.events import Delivered, Ended, Lost, Powered, SupplyChannel
from powertcp.profile import PowerProfile
from powertcp.wire.options import Sampling

RATE_HZ: Final = 8000
PEAK: Final = 32767 * 10 ** (-18 / 20)
RAMP_SAMPLES: Final = RATE_HZ * 300 // 1000
# below 20 Hz nobody hears, and the mean of a rectified voltage is there
MEAN_HZ: Final = 20
PLAYERS: Final = (
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-r", "8000", "-c", "1", "-"),
    ("paplay", "--raw", "--format=s16le", "--rate=8000", "--channels=1"),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", "8000", "-c", "1", "-"),
)
# what a player still has in its buffers when the supply ends
PATIENCE_S: Final = 2.0

Floats = npt.NDArray[np.float64]


class Resampler:
    """A stream of any rate to RATE_HZ: mean over an output sample's time, then interpolation."""

    def __init__(self, rate_hz: int) -> None:
        """Begin a stream of `rate_hz` samples per second."""
        self._step = rate_hz / RATE_HZ
        self._width = max(1, rate_hz // RATE_HZ)
        self._before: Floats = np.zeros(self._width - 1)
        self._last = 0.0
        self._position = 0.0

    def push(self, samples: Floats) -> Floats:
        """Return the output samples that fall into the time of `samples`."""
        if self._width > 1:
            joined = np.concatenate([self._before, samples])
            self._before = joined[len(joined) - self._width + 1 :]
            weights = np.full(self._width, 1 / self._width)
            samples = np.convolve(joined, weights, "valid")
        count = len(samples)
        if count == 0:
            return samples
        # index -1 is the last sample of the push before; past count - 1 nothing is known yet
        due = max(0, math.floor((count - 1 - self._position) / self._step) + 1)
        at = self._position + self._step * np.arange(due)
        out: Floats = np.interp(at, np.arange(-1, count), np.concatenate([[self._last], samples]))
        self._last = float(samples[-1])
        self._position += due * self._step - count
        return out


class Voice:
    """Sample words in, 16-bit sound out; pure."""

    def __init__(self) -> None:
        """Begin silent."""
        self._peak_v = 1.0
        self._mean = 0.0
        self._gain = 0.0
        self._is_on = False
        self._rate_hz = 0
        self._resampler = Resampler(RATE_HZ)
        self._tail: Floats = np.zeros(0)

    def switch_on(self, profile: PowerProfile) -> None:
        """Rise from silence; the nominal peak of `profile` is -18 dBFS."""
        # a rectified sine lies between -2/pi and 1-2/pi of its peak once the mean is gone
        factor = math.sqrt(2) * 2 / math.pi if profile.frequency_chz else 1.0
        peak_mv = profile.voltage_mv * factor
        self._peak_v = max(1e-3, peak_mv / 1000)
        self._is_on = True

    def sound(self, samples: bytes, sampling: Sampling) -> bytes:
        """Return the sound of interleaved sample words, 16-bit little-endian."""
        if not self._is_on:
            return b""
        if sampling.rate_hz != self._rate_hz:
            self._rate_hz = sampling.rate_hz
            self._resampler = Resampler(sampling.rate_hz)
        words = np.frombuffer(samples, ">i4").reshape(-1, 2 * sampling.pairs)
        volts = np.abs(words[:, 0].astype(np.float64)) * (sampling.nv_per_lsb / 1e9)
        wave_form = self._centre(self._resampler.push(volts / self._peak_v))
        self._tail = np.concatenate([self._tail, wave_form])[-RAMP_SAMPLES:]
        return self._encode(wave_form, 1.0)

    def switch_off(self) -> bytes:
        """Return 300 ms of what sounded last, fading; then there is silence."""
        fading, self._tail = self._tail, np.zeros(0)
        was_on, self._is_on = self._is_on, False
        if not was_on:
            return b""
        sound = self._encode(fading, 0.0)
        self._gain = 0.0
        return sound

    def _centre(self, wave_form: Floats) -> Floats:
        """Take the mean away, as a transformer would."""
        if len(wave_form) == 0:
            return wave_form
        share = 1 - math.exp(-len(wave_form) * 2 * math.pi * MEAN_HZ / RATE_HZ / 8)
        mean = self._mean
        self._mean += (float(wave_form.mean()) - mean) * (share if mean else 1.0)
        path = np.linspace(mean if mean else self._mean, self._mean, len(wave_form))
        centred: Floats = wave_form - path
        return centred

    def _encode(self, wave_form: Floats, target: float) -> bytes:
        steps = np.arange(1, len(wave_form) + 1) / RAMP_SAMPLES
        if target > self._gain:
            gain = np.minimum(target, self._gain + steps)
        else:
            gain = np.maximum(target, self._gain - steps)
        if len(gain):
            self._gain = float(gain[-1])
        scaled = np.clip(wave_form * gain, -1.0, 1.0) * PEAK
        return scaled.astype("<i2").tobytes()


class Speaker(Protocol):
    """Where the sound goes."""

    async def play(self, sound: bytes) -> None:
        """Take 16-bit samples at 8 kHz."""

    async def close(self) -> None:
        """Play the rest; afterwards nothing of the speaker is left."""


class WavFile:
    """A WAV file whose header is right after each write, so that a killed consumer leaves one."""

    def __init__(self, path: str) -> None:
        """Make the file; HostError when it cannot be written."""
        self._path = path
        try:
            # both are closed by `close`: the file lives as long as the load
            self._file = open(path, "wb")  # noqa: SIM115
            self._wave = wave.open(self._file, "wb")  # noqa: SIM115
            self._wave.setnchannels(1)
            self._wave.setsampwidth(2)
            self._wave.setframerate(RATE_HZ)
            self._wave.writeframes(b"")
            self._file.flush()
        except OSError as error:
            raise HostError(error.errno or 0, path, "write the hum") from error

    async def play(self, sound: bytes) -> None:
        """Append, then rewrite the sizes in the header."""
        await trio.to_thread.run_sync(self._append, sound)

    def _append(self, sound: bytes) -> None:
        try:
            self._wave.writeframes(sound)
            self._file.flush()
        except OSError as error:
            raise HostError(error.errno or 0, self._path, "write the hum") from error

    async def close(self) -> None:
        """Close the file."""
        await trio.lowlevel.checkpoint()
        try:
            self._wave.close()
            self._file.close()
        except OSError as error:
            raise HostError(error.errno or 0, self._path, "write the hum") from error


class Player:
    """A player that reads raw samples from its standard input; it ends when we do."""

    def __init__(self, process: trio.Process, stdin: trio.abc.SendStream) -> None:
        """Feed a running player."""
        self._process = process
        self._stdin = stdin

    async def play(self, sound: bytes) -> None:
        """Hand the samples over; a player that went away is not missed twice."""
        try:
            await self._stdin.send_all(sound)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HostError(errno.EPIPE, str(self._process.args), "play the hum") from error

    async def close(self) -> None:
        """End of input, then a moment to play the rest, then SIGKILL."""
        with trio.move_on_after(PATIENCE_S):
            await self._stdin.aclose()
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            with trio.CancelScope(shield=True):
                await self._process.wait()


async def open_speaker(path: str | None) -> Speaker:
    """Open the WAV file, or the first player there is; HostError when there is none."""
    await trio.lowlevel.checkpoint()
    if path is not None:
        return WavFile(path)
    for command in PLAYERS:
        if shutil.which(command[0]) is not None:
            process = await trio.lowlevel.open_process(
                list(command), stdin=subprocess.PIPE, start_new_session=True
            )
            stdin = process.stdin
            if stdin is not None:
                return Player(process, stdin)
    names = ", ".join(command[0] for command in PLAYERS)
    raise HostError(
        errno.ENOENT, names, "find a player (none is installed; hum=FILE.wav writes a file)"
    )


class Hum:
    """The load that sounds; `path` names a WAV file, None means the speakers of this host."""

    name = "hum"
    wants_samples = True

    def __init__(self, path: str | None = None) -> None:
        """Sound into `path`, or through a player."""
        self._path = path
        self._voice = Voice()

    async def run(self, supply: SupplyChannel) -> int:
        """Sound until Ended; 0. HostError when this host cannot. Cancelled: the file is closed."""
        speaker = await open_speaker(self._path)
        try:
            async for event in supply:
                match event:
                    case Powered(profile=profile):
                        self._voice.switch_on(profile)
                    case Delivered(samples=bytes(samples), sampling=Sampling() as sampling):
                        await speaker.play(self._voice.sound(samples, sampling))
                    case Lost():
                        await speaker.play(self._voice.switch_off())
                    case Ended():
                        break
                    case _:
                        pass
            await speaker.play(self._voice.switch_off())
        finally:
            with trio.move_on_after(2 * PATIENCE_S, shield=True):
                await speaker.close()
        return 0
