"""Ask what is wrong with a machine, and which kernels are right on it; `--help` says what is read and written."""

from alttrain.engine.cli import run_program
from alttrain.engine.doctor import doctor
from alttrain.engine.doctor.config import DoctorConfig

if __name__ == "__main__":
    run_program(DoctorConfig(), doctor.doctor, doctor.__doc__)
