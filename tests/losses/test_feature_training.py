"""Every feature loss in `kd.Distiller`: trains, is saved, goes on."""

import keras
import numpy as np
import pytest
from marks import nightly
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

X, Y = data(16)
TAPS = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
TWO = {
    "teacher_layer_name": ["act1", "conv2"],
    "student_layer_name": ["act1", "conv2"],
}


LOSSES = {
    "variational": lambda: kd.losses.VariationalInformation(**TAPS),
    "selectivity": lambda: kd.losses.NeuronSelectivityTransfer(**TWO),
    "factor": lambda: kd.losses.FactorTransfer(**TAPS, paraphraser_epochs=1),
    "boundary": lambda: kd.losses.ActivationBoundary(**TWO),
    "overhauled": lambda: kd.losses.OverhauledFeature(
        **TAPS, batch_norm_layer_name="bn"
    ),
    "review": lambda: kd.losses.KnowledgeReview(**TWO),
    "channel_wise": lambda: kd.losses.ChannelWise(**TWO),
    "aligned": lambda: kd.losses.LayerAlignedVariationalInformation(
        **TWO, alignment="learned", reduction="mean"
    ),
    "self": lambda: kd.losses.SelfAttention(
        student_layer_name=TWO["student_layer_name"]
    ),
}


# With a stage before training, with moments, with layers of its own.
IN_CI = ("factor", "aligned", "self")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*IN_CI, *nightly(*sorted(LOSSES.keys() - IN_CI))]
)
def test_saved_and_loaded_it_goes_on(name, tmp_path):
    teacher = convnet(6, batch_norm=True)
    distiller = kd.Distiller(
        student=convnet(),
        teacher=teacher,
        distillation_losses={name: LOSSES[name]()},
        distillation_loss_weights=0.01,
    )
    distiller.compile(keras.optimizers.SGD(0.01), crossentropy())
    distiller.fit(X, Y, batch_size=8, verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = kd.load_distiller(tmp_path / "d.keras", teacher=teacher)
    logs = [
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
        for model in (distiller, loaded)
    ]
    key = f"{name}_loss"
    assert np.isfinite(logs[0][key]).all() and logs[0][key] != [0.0]
    for log in logs[0]:
        np.testing.assert_allclose(logs[0][log], logs[1][log], rtol=1e-5)
    for one, other in zip(distiller.weights, loaded.weights):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
