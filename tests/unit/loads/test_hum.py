import numpy as np
import pytest

from powertcp.loads.hum import PEAK, RATE_HZ, Resampler, Voice
from powertcp.profile import PowerProfile
from powertcp.wire.options import Sampling


def mains(rate_hz: int, seconds: int, pairs: int = 1) -> bytes:
    at = np.arange(rate_hz * seconds) / rate_hz
    words = np.zeros((len(at), 2 * pairs), ">i4")
    words[:, 0] = 325_269 * np.sin(2 * np.pi * 50 * at)
    return words.tobytes()


def heard(voice: Voice, samples: bytes, sampling: Sampling) -> np.ndarray:
    frame = 8 * sampling.pairs * (sampling.rate_hz // 10)
    sound = b"".join(
        voice.sound(samples[at : at + frame], sampling) for at in range(0, len(samples), frame)
    )
    return np.frombuffer(sound, "<i2").astype(float)


@pytest.mark.parametrize("rate_hz", [1000, 4000, 8000, 50_000])
def test_fifty_hertz_hum_at_a_hundred_and_at_minus_18_dbfs(rate_hz: int) -> None:
    voice = Voice()
    voice.switch_on(PowerProfile.parse("230V/1A@50Hz"))
    wave_form = heard(voice, mains(rate_hz, 2, pairs=2), Sampling(rate_hz, pairs=2))
    assert abs(len(wave_form) - 2 * RATE_HZ) <= RATE_HZ // rate_hz + 1
    steady = wave_form[RATE_HZ // 2 : RATE_HZ // 2 + RATE_HZ]
    assert np.argmax(np.abs(np.fft.rfft(steady))) == 100
    assert PEAK * 0.7 <= np.abs(steady).max() <= PEAK


def test_it_rises_and_falls_by_ramps() -> None:
    voice = Voice()
    voice.switch_on(PowerProfile.parse("230V/1A@50Hz"))
    wave_form = heard(voice, mains(4000, 1), Sampling(4000))
    assert np.abs(wave_form[:80]).max() < PEAK / 20
    assert np.abs(wave_form[-800:]).max() > PEAK / 2
    fading = np.abs(np.frombuffer(voice.switch_off(), "<i2").astype(float))
    assert len(fading) == RATE_HZ * 3 // 10
    assert fading[:200].max() > PEAK / 2
    assert fading[-80:].max() < PEAK / 20
    assert voice.switch_off() == b""
    assert voice.sound(mains(4000, 1), Sampling(4000)) == b""


def test_direct_current_is_silent() -> None:
    voice = Voice()
    voice.switch_on(PowerProfile.parse("12V/1A"))
    words = np.zeros((1000, 2), ">i4")
    words[:, 0] = 12_000
    assert np.abs(heard(voice, words.tobytes(), Sampling(1000))).max() <= 1


@pytest.mark.parametrize("rate_hz", [10, 4000, 44_100])
def test_no_sample_is_lost_however_the_stream_is_cut(rate_hz: int) -> None:
    samples = np.sin(np.arange(3 * rate_hz) / 7)
    whole = Resampler(rate_hz).push(samples)
    cut = Resampler(rate_hz)
    parts = [cut.push(part) for part in np.array_split(samples, 17)]
    assert np.allclose(np.concatenate(parts), whole)
    assert abs(len(whole) - 3 * RATE_HZ) <= RATE_HZ // rate_hz + 1
