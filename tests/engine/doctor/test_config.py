"""The doctor needs no setting: it asks the whole machine."""

from alttrain.engine.doctor.config import MODEL_FLAG, DoctorConfig


def test_every_setting_has_a_default_and_the_flag_is_its_name() -> None:
    assert DoctorConfig() == DoctorConfig(model="", dtype="bfloat16", output="")
    assert f"--{'model'}" == MODEL_FLAG
