"""The front-end of encoders that take samples: none."""

from jaxtyping import Float
from torch import Tensor

from audiorep.compress import Decibel
from audiorep.errors import AudiorepError
from audiorep.frontend import FrontEnd, Mel, Stft
from audiorep.types import Spec, Wave


class Waveform(FrontEnd):
    """Samples as they are: Wave [b t] -> [b 1 1 t], one band whose frames are samples.

    Reports draw, and the mel baseline of the evaluation measures, 64 mel bands in dB of the same samples.

    Args:
        sample_rate_hz: rate of the samples, in Hz.
        hop_s: distance of the frames of that mel spectrogram, in s; its window is four hops long.

    Raises:
        AudiorepError: a window to train on is too short for that spectrogram.
    """

    gives_samples = True
    hop_samples = 1

    def __init__(self, sample_rate_hz: int, hop_s: float = 0.01) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.mel = Mel(sample_rate_hz, win_s=4.0 * hop_s, hop_s=hop_s)
        self.decibel = Decibel()

    @property
    def shortest(self) -> int:
        return 1

    @property
    def shown(self) -> Stft:
        return self.mel

    def picture(self, seen: Spec) -> Float[Tensor, "b 1 bands frames"]:
        return self.decibel(self.mel(seen[:, 0, 0]))

    def check_length(self, samples: int) -> None:
        if samples < self.mel.n_fft:
            raise AudiorepError(
                f"a window of {samples} samples is shorter than the {self.mel.n_fft} of the mel spectrogram that the "
                "encoder is compared with: raise window.length_s or lower frontend.hop_s"
            )

    def forward(self, wave: Wave) -> Spec:
        return wave[:, None, None]
