"""`kd.write_report`: the page, its numbers, and what is refused."""

import dataclasses
import html.parser
import json
import pathlib
import re
import tomllib

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill.metrics.decisions import labels_fingerprint
from keras_distill.report import page as page_module
from keras_distill.report import writing
from keras_distill.report.page import page

layers = keras.layers
EVIL = "<script>alert('a') & \"b\"</script>"


def table(kernel, name, activation=None):
    """A network whose logits are a linear map of its inputs."""
    kernel = np.asarray(kernel, "float32")
    model = keras.Sequential(
        [
            keras.Input(kernel.shape[:1]),
            layers.Dense(kernel.shape[1], use_bias=False),
            layers.Activation(activation),
        ],
        name=name,
    )
    model.set_weights([kernel])
    return model


# Samples are logits of the student; labels are chosen by hand. The teacher
# takes class 0 for class 1 and the other way round.
LOGITS = np.log(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]
).astype("float32")
LABELS = np.array([0, 1, 1, 2])
SWAPPED = [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def student():
    return table(np.eye(3), "student")


def teacher():
    return table(SWAPPED, "teacher")


def write(tmp_path, name="report.html", **options):
    """Writes a report; options go into the objects that take them."""

    def taken(kind):
        fields = {field.name for field in dataclasses.fields(kind)}
        return kind(**{k: options.pop(k) for k in fields & options.keys()})

    options = {"student": student(), "verbose": False, **options}
    path = kd.write_report(
        tmp_path / name,
        taken(kd.report.Networks),
        options.pop("dataset", (LOGITS, LABELS)),
        evidence=taken(kd.report.Evidence),
        about=taken(kd.report.About),
        **options,
    )
    numbers = json.loads(path.with_suffix(".json").read_text())
    return path.read_text(encoding="utf-8"), numbers


class Checker(html.parser.HTMLParser):
    """Tags are closed in order; keeps what there is to look at."""

    VOID = {"meta", "img", "br", "hr", "link", "col"}
    SELF_CLOSED = {"path"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            assert tag not in self.SELF_CLOSED
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A report with every section, of small convolutional networks."""
    keras.utils.set_random_seed(0)
    tmp_path = tmp_path_factory.mktemp("full")
    x, y = data(64)
    distiller = kd.Distiller(
        student=convnet(name="pupil"),
        teacher=convnet(8, name="master"),
        distillation_losses=kd.losses.SoftTargets(temperature=3.0),
    )
    distiller.compile("adam", crossentropy(), metrics=["accuracy"])
    train = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    history = distiller.fit(train, validation_data=(x, y), epochs=2, verbose=0)
    path = distiller.export(tmp_path / "student.tflite", verbose=False)
    test = (x[:48], y[:48])
    made, pictures = {}, {}

    def remember(facts, given):
        pictures.update(given)
        return page(facts, given)

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(page_module, "page", remember)
    made["text"], made["numbers"] = write(
        tmp_path,
        student=distiller,
        dataset=test,
        alone=convnet(name="alone"),
        verification=kd.export.verify(
            path, distiller.student, test, latency_runs=2, verbose=False
        ),
        accuracies={"alone": [0.5, 0.6], "distilled": [0.7, 0.9]},
        history={"student alone": history.history, "distilled": [history] * 2},
        train_dataset=train,
        class_names=["cat", EVIL, "dog", "bird"],
        title=EVIL,
        configuration={"note": EVIL, "array": np.arange(2)},
        seeds=[1, 2],
        command=f"python {EVIL}",
    )
    monkeypatch.undo()
    made["pictures"] = pictures
    made["page"] = Checker(made["text"])
    return made


SECTIONS = (
    "summary files networks training calibration classes disagreements "
    "views origin"
).split()


@pytest.mark.slow
def test_all_sections_in_order(full):
    found = [a["id"] for a in full["page"].all("h2")]
    assert found == SECTIONS
    links = [a["href"] for a in full["page"].all("a")]
    assert links == [f"#{name}" for name in SECTIONS]
    assert len(full["page"].all("h1")) == 1


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(full):
    text = full["text"]
    assert "http" not in text
    assert "//" not in re.sub(r"base64,[^\"]*", "", text)
    tags = {name for name, _ in full["page"].tags}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    for name, attributes in full["page"].tags:
        assert not any(key.startswith("on") for key in attributes), name
    for image in full["page"].all("img"):
        assert image["src"].startswith("data:image/png;base64,")
    assert "url(" not in text and "@import" not in text


def test_what_the_user_names_is_text(full):
    assert "<script" not in full["text"]
    escaped = "&lt;script&gt;alert(&#39;a&#39;) &amp; &#34;b&#34;"
    assert f"<title>{escaped}" in full["text"]
    assert f"<h1>{escaped}" in full["text"]
    assert f"python {escaped}" in full["text"]
    assert full["text"].count(escaped) > 5


def test_it_can_be_read_without_seeing_it(full):
    for image in full["page"].all("img"):
        assert image["alt"]
    for drawing in full["page"].all("svg"):
        hidden = drawing.get("aria-hidden") == "true"
        assert hidden or (drawing["role"] == "img" and drawing["aria-label"])
    for head in full["page"].all("th"):
        assert head["scope"] in ("col", "row")
    assert full["page"].all("html") == [{"lang": "en"}]
    for place in full["page"].all("table"):
        assert place["aria-label"]


def test_the_page_is_made_of_the_numbers_alone(full):
    assert page(full["numbers"], full["pictures"]) == full["text"]


def test_numbers_say_what_they_are(full):
    numbers = full["numbers"]
    assert numbers["format"] == "keras_distill report"
    assert numbers["format_version"] == 1
    assert numbers["configuration"]["array"] == [0, 1]
    losses = numbers["configuration"]["distillation_losses"]
    assert losses["soft_targets"]["loss"]["config"]["temperature"] == 3.0
    assert numbers["configuration"]["alpha"] == 0.5
    assert numbers["configuration"]["optimizer"]["class_name"] == "Adam"
    assert len(numbers["configuration"]["teacher_fingerprint"]) == 64
    assert numbers["seeds"] == [1, 2]
    assert numbers["runs"]["gain"]["mean"] == pytest.approx(0.25)
    assert numbers["networks"]["teacher"]["name"] == "master"
    assert numbers["views"]["same"]
    for package in ("python", "keras", "tensorflow", "keras_distill"):
        assert numbers["versions"][package] in full["text"]


def test_tables_name_their_rows_and_align_numbers(full):
    cells = '<th scope="row">student</th>\n<td class="number">'
    assert cells in full["text"]
    rows = len(full["page"].all("tr"))
    heads = [th["scope"] for th in full["page"].all("th")]
    assert heads.count("row") == rows - len(full["page"].all("thead"))
    # Settings and losses are words.
    origin = full["text"].split('id="origin"')[1]
    assert 'class="number"' not in origin


def test_identifiers_are_unique(full):
    found = [a["id"] for _, a in full["page"].tags if "id" in a]
    assert len(set(found)) == len(found)


def test_what_the_page_is_made_of_is_shipped():
    root = pathlib.Path(kd.__file__).parent
    with open(root.parent / "pyproject.toml", "rb") as file:
        tools = tomllib.load(file)["tool"]["setuptools"]
    there = {
        path.name
        for path in (root / "report").iterdir()
        if path.is_file() and path.suffix != ".py"
    }
    assert there == set(tools["package-data"]["keras_distill.report"])


def test_weights_are_counted_and_not_copied(monkeypatch):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, dtype=keras.DTypePolicy("bfloat16")),
            layers.Dense(2, dtype="float16"),
            layers.BatchNormalization(),
        ]
    )

    def fail(*args):
        raise AssertionError("a weight was copied")

    monkeypatch.setattr(keras.ops, "convert_to_numpy", fail)
    expected = 2 * (4 * 3 + 3) + 2 * (3 * 2 + 2) + 4 * 4 * 2
    assert writing._weight_bytes(model) == expected


def test_no_folder_of_this_machine_is_told(full, tmp_path):
    row = full["numbers"]["verification"]["rows"][1]
    assert row["path"] == "student.tflite"
    everything = full["text"] + json.dumps(full["numbers"])
    assert str(tmp_path.parents[1]) not in everything


def test_numbers_by_hand(tmp_path):
    text, numbers = write(tmp_path, teacher=teacher())
    networks = numbers["networks"]
    assert networks["student"]["accuracy"] == 0.75
    assert networks["teacher"]["accuracy"] == 0.5  # the second and the last
    assert networks["student"]["agreement_with_teacher"] == 0.25
    assert networks["student"]["parameters"] == 9
    assert networks["student"]["multiply_accumulates"] == 9
    assert networks["student"]["weight_bytes"] == 36
    mean = networks["student"]["mean_confidence"]
    assert mean == pytest.approx((0.7 + 0.6 + 0.8 + 0.7) / 4)
    # 0.7 is the bin (10/15, 11/15]; 0.6 belongs to the bin that ends there.
    error = (2 * abs(1 - 0.7) + abs(0 - 0.6) + abs(1 - 0.8)) / 4
    assert networks["student"]["expected_calibration_error"] == pytest.approx(
        error
    )
    shown = [
        (row["sample"], row["label"], row["student"], row["teacher"])
        for row in numbers["disagreements"]
    ]
    assert shown == [(2, 1, 1, 0), (0, 0, 0, 1), (1, 1, 0, 1)]
    by_class = {row["class"]: row for row in numbers["classes"]}
    assert by_class[1]["samples"] == 2
    assert by_class[1]["student"] == by_class[1]["teacher"] == 0.5
    assert by_class[2]["agreement"] == 1.0
    assert numbers["classes"][-1]["class"] == 2  # they agree there
    assert numbers["splits"][0] == {
        "teacher": 1,
        "student": 0,
        "samples": 2,
        "teacher_right": 1,
        "student_right": 1,
    }
    assert "75.0\u00a0%" in text and "The test data has no images" in text


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_batches_do_not_change_the_numbers(tmp_path, batch):
    whole = write(tmp_path, "a.html", teacher=teacher())[1]
    dataset = tf.data.Dataset.from_tensor_slices((LOGITS, LABELS)).batch(batch)
    parts = write(tmp_path, "b.html", teacher=teacher(), dataset=dataset)[1]
    for key in ("classes", "splits", "disagreements", "networks"):
        assert json.dumps(whole[key]) == json.dumps(parts[key])


def test_only_sections_with_data(tmp_path):
    text, numbers = write(tmp_path)
    found = [a["id"] for a in Checker(text).all("h2")]
    expected = ["summary", "networks", "calibration", "classes", "origin"]
    assert found == expected
    assert [a["href"] for a in Checker(text).all("a")] == [
        f"#{name}" for name in expected
    ]
    assert numbers["runs"] is None and numbers["verification"] is None
    assert "teacher" not in text.replace("--teacher", "").replace(
        ".teacher", ""
    )


def test_softmax_and_one_unit(tmp_path):
    plain = write(tmp_path, "a.html")[1]["networks"]["student"]
    soft = table(np.eye(3), "soft", "softmax")
    other = write(tmp_path, "b.html", student=soft)[1]["networks"]["student"]
    assert other["mean_confidence"] == pytest.approx(plain["mean_confidence"])
    one = table([[1.0]], "one")
    x = np.array([[2.0], [-1.0], [-3.0]], "float32")
    numbers = write(
        tmp_path,
        "c.html",
        student=one,
        dataset=(x, np.array([1, 1, 0])),
        class_names=["no", "yes"],
    )[1]
    assert numbers["networks"]["student"]["accuracy"] == pytest.approx(2 / 3)
    assert numbers["data"]["class_names"] == ["no", "yes"]


def test_one_hot_labels_and_a_subclassed_network(tmp_path):
    x, y = data(16)
    network = Subclassed()
    network(x[:1])
    sparse = write(tmp_path, "a.html", student=network, dataset=(x, y))[1]
    one_hot = keras.utils.to_categorical(y, 4)
    dense = write(tmp_path, "b.html", student=network, dataset=(x, one_hot))[1]
    assert sparse["classes"] == dense["classes"]
    assert sparse["data"]["kind"] == "images"


def test_views_are_applied(tmp_path):
    views = kd.views.Preprocessing(
        student=layers.Rescaling(-1.0), teacher=layers.Rescaling(2.0)
    )
    text, numbers = write(
        tmp_path, teacher=teacher(), views=views, train_dataset=(LOGITS, LABELS)
    )
    networks = numbers["networks"]
    assert networks["student"]["accuracy"] == 0.0
    assert networks["teacher"]["accuracy"] == 0.5  # a factor changes nothing
    seen = numbers["views"]
    assert not seen["same"] and "same" not in text.split('id="views"')[1]
    assert seen["teacher"][""]["min"] == pytest.approx(2 * LOGITS.min())
    assert seen["student"][""]["max"] == pytest.approx(-LOGITS.min())


def test_a_distillers_teacher_of_other_classes_is_only_named(tmp_path):
    loss = kd.losses.Hint(
        teacher_layer_name="conv1", student_layer_name="conv1"
    )
    distiller = kd.Distiller(
        student=convnet(),
        teacher=convnet(8, classes=7, name="wide"),
        distillation_losses=loss,
    )
    numbers = write(tmp_path, student=distiller, dataset=data(8))[1]
    found = numbers["networks"]["teacher"]
    assert found["name"] == "wide" and "accuracy" not in found
    assert numbers["networks"]["student"]["agreement_with_teacher"] is None


@pytest.mark.slow
def test_what_ships_is_what_is_reported(tmp_path):
    """A loss that deploys the teacher's classifier changes the student."""
    distiller = kd.Distiller(
        student=convnet(),
        teacher=convnet(8),
        distillation_losses=kd.losses.ReusedClassifier(
            teacher_layer_name="conv2", student_layer_name="conv2"
        ),
        alpha=1.0,
    )
    distiller.compile("adam")
    x, y = data(16)
    distiller.fit(x, y, verbose=0)
    numbers = write(tmp_path, student=distiller, dataset=(x, y))[1]
    expected = distiller.deployable_student()
    right = expected.predict(x, verbose=0).argmax(-1) == y
    found = numbers["networks"]["student"]
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["parameters"] == expected.count_params()


def never_read():
    raise AssertionError("the data was read")
    yield


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write(tmp_path, dataset=never_read())
    assert (tmp_path / "report.json").read_text() == "mine"
    assert not (tmp_path / "report.html").exists()
    write(tmp_path, overwrite=True)
    assert (tmp_path / "report.json").read_text() != "mine"


def test_both_files_or_none(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(writing.json, "dumps", fail)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_networks_are_left_as_they_were(tmp_path):
    network, master = convnet(batch_norm=True), convnet(8, batch_norm=True)
    before = [m.get_weights() for m in (network, master)]
    write(tmp_path, student=network, teacher=master, dataset=data(8))
    for model, weights in zip((network, master), before):
        for a, b in zip(model.get_weights(), weights):
            np.testing.assert_array_equal(a, b)


def unbuilt():
    return keras.Sequential([layers.Dense(3)], name="unbuilt")


def endless():
    whole = tf.data.Dataset.from_tensor_slices((LOGITS, LABELS))
    return whole.batch(2).repeat()


def single_samples():
    return tf.data.Dataset.from_tensor_slices((LOGITS, LABELS))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dataset": LOGITS}, ValueError, "needs labels and `dataset` gives"),
        ({"dataset": (LOGITS[:0], LABELS[:0])}, ValueError, "is empty"),
        ({"dataset": []}, ValueError, "is empty"),
        ({"dataset": endless}, ValueError, r"dataset\.take\(batches\)"),
        ({"dataset": single_samples}, ValueError, r"dataset\.batch\(32\)"),
        ({"dataset": "digits"}, TypeError, "`dataset` must be"),
        ({"dataset": (LOGITS, LABELS + 1)}, ValueError, r"lie in \[0, 2\]"),
        ({"dataset": (LOGITS, LABELS + 0.5)}, ValueError, "not class indices"),
        ({"dataset": (LOGITS * np.nan, LABELS)}, ValueError, "not finite"),
        ({"class_names": ["a", "b"]}, ValueError, "2 names, the student 3"),
        ({"class_names": list("abcd")}, ValueError, "4 names, the student 3"),
        ({"student": unbuilt}, ValueError, "'unbuilt' is not built"),
        ({"student": "model.keras"}, TypeError, "student must be"),
        ({"teacher": unbuilt}, ValueError, "'unbuilt' is not built"),
        ({"alone": unbuilt}, ValueError, "'unbuilt' is not built"),
        ({"alone": [0.9, 0.8]}, TypeError, "go into `accuracies`"),
        ({"history": "loss"}, TypeError, "`history` must be"),
        ({"history": [1.0, 2.0]}, TypeError, "`history` must be"),
        ({"history": {"run": 3}}, TypeError, "`history` must be"),
        ({"verification": {"rows": []}}, TypeError, "kd.export.verify"),
        ({"configuration": [1]}, TypeError, "`configuration` must be a dict"),
        ({"views": "flip"}, TypeError, "views must be"),
        ({"accuracies": [0.9]}, ValueError, "`accuracies` must be a dict"),
        ({"accuracies": {"student": 0.9}}, ValueError, "'distilled'"),
        ({"accuracies": {"alone": [91.5]}}, ValueError, r"shares in \[0, 1\]"),
        ({"agreements": {"alone": []}}, ValueError, r"`agreements\['alone'\]`"),
        ({"train_dataset": []}, ValueError, "`train_dataset` is empty"),
        ({"name": "report.pdf"}, ValueError, r"must end in \.html"),
    ],
)
def test_what_is_refused(tmp_path, options, error, message):
    options = {
        key: value() if callable(value) else value
        for key, value in options.items()
    }
    with pytest.raises(error, match=message):
        write(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["teacher", "alone"])
def test_networks_of_other_classes_are_refused(tmp_path, key):
    other = table(np.ones((3, 5)), "other")
    with pytest.raises(ValueError, match="'other' has 5 classes, .* 3"):
        write(tmp_path, **{key: other})


def test_what_is_no_classifier_is_refused(tmp_path):
    inputs = keras.Input((3,))
    two = keras.Model(
        inputs, [layers.Dense(3)(inputs), layers.Dense(2)(inputs)]
    )
    with pytest.raises(ValueError, match="write_report is for classifiers"):
        write(tmp_path, student=two)
    one = table([[1.0], [0.0], [0.0]], "one")
    with pytest.raises(ValueError, match="is this a regression"):
        write(tmp_path, student=one, dataset=(LOGITS, LOGITS[:, 0]))
    with pytest.raises(ValueError, match="several labels per sample"):
        write(tmp_path, dataset=(LOGITS, np.ones((4, 3), int)))
    many = table(np.eye(3), "many", "sigmoid")
    with pytest.raises(ValueError, match="write_report is for one class"):
        write(tmp_path, student=many)


@pytest.mark.parametrize(
    ("argument", "kind"), [("evidence", "Evidence"), ("about", "About")]
)
def test_what_belongs_into_an_object(tmp_path, argument, kind):
    with pytest.raises(TypeError, match=f"must be a kd.report.{kind}"):
        kd.write_report(
            tmp_path / "report.html",
            student(),
            (LOGITS, LABELS),
            **{argument: {"title": "mine"}},
        )


def two_classes(found, name):
    """Decides by its own column of the samples of `trial`."""
    kernel = np.zeros((2, 2), "float32")
    kernel[found] = [-1, 1]
    return table(kernel, name)


def trial():
    """100 defects of 1000; the distilled student finds 70, alone 78.

    Alone takes 45 good ones for defects, distilled 5.
    """
    y = np.repeat([1, 0], [100, 900])
    says = np.zeros((1000, 2))
    for column, (found, wrong) in enumerate([(70, 5), (78, 45)]):
        says[:found, column] = says[100 : 100 + wrong, column] = 1
    return (2 * says - 1).astype("float32"), y


def test_the_trial(tmp_path):
    networks = {
        "student": two_classes(0, "distilled"),
        "alone": two_classes(1, "alone"),
    }
    text, numbers = write(
        tmp_path, **networks, dataset=trial(), class_names=["ok", "defect"]
    )
    found = numbers["networks"]
    assert found["student"]["accuracy"] > found["alone"]["accuracy"]
    assert found["student"]["balanced_accuracy"] == pytest.approx(
        (0.7 + 895 / 900) / 2
    )
    assert found["alone"]["confusion_matrix"] == [[855, 45], [22, 78]]
    assert found["student"]["area_under_curve"] == pytest.approx(
        (0.7 + 895 / 900) / 2
    )
    assert numbers["data"]["majority"] == {
        "class": 0,
        "accuracy": 0.9,
        "balanced_accuracy": 0.5,
    }
    by_class = {row["class"]: row for row in numbers["classes"]}
    assert by_class[1]["student"] == 0.7 and by_class[1]["alone"] == 0.78
    assert by_class[1]["precision"] == {
        "student": 70 / 75,
        "alone": pytest.approx(78 / 123),
    }
    summary = " ".join(numbers["summary"])
    assert "no difference that this test size can show" in summary
    assert "the recall of defect fell most: from 78.0 % to 70.0 %" in summary
    assert "balanced accuracy</dt><dd>84.7" in text
    assert "always “ok”" in text and "<details open>" in text
    assert 'style="--share: 0.700">70<' in text


def test_balanced_data_stays_calm(tmp_path):
    x = np.tile(np.eye(3, dtype="float32"), (10, 1))
    text, numbers = write(tmp_path, dataset=(x, np.tile([0, 1, 2], 10)))
    assert not numbers["data"]["imbalanced"]
    assert "<details>" in text and "<details open>" not in text
    assert "balanced accuracy" not in text
    assert numbers["networks"]["student"]["balanced_accuracy"] == 1.0


def test_many_classes_show_their_confusions(tmp_path):
    classes = 60
    x = np.eye(classes, dtype="float32")[np.arange(120) % classes]
    y = np.arange(120) % classes
    y[:2] = 5  # said to be 0 and 1
    text, numbers = write(
        tmp_path,
        student=table(np.eye(classes), "wide"),
        dataset=(x, y),
    )
    found = numbers["networks"]["student"]
    assert found["confusion_matrix"] is None
    assert found["largest_confusions"] == [
        {"label": 5, "decided": 0, "samples": 1},
        {"label": 5, "decided": 1, "samples": 1},
    ]
    assert "the most frequent confusions" in text
    assert 'class="matrix"' not in text


def verified(samples, fingerprint=None):
    rows = [
        {
            "file": name,
            "size_bytes": 10,
            "accuracy": 1.0,
            "accuracy_drop_points": 0.0,
            "recall": [1.0],
            "confusion_matrix": [[1]],
        }
        for name in ("student (Keras)", "int8")
    ]
    made = kd.export.Verification(rows, samples, "output", 1, 0)
    made.data_fingerprint = fingerprint
    return made


def test_a_verification_of_the_same_data(tmp_path):
    same = labels_fingerprint(LABELS)
    for name, given in ("a", same), ("b", None):
        text, numbers = write(
            tmp_path, f"{name}.html", verification=verified(4, given)
        )
        assert numbers["verification"]["samples"] == 4
        files = text.split('id="files"')[1].split("</section>")[0]
        assert "recall" not in files and "confusion" not in files
        assert numbers["data"]["labels_fingerprint"] == same


@pytest.mark.parametrize(
    ("samples", "fingerprint", "words"),
    [
        (5, None, "it has 5 samples, `dataset` 4"),
        (4, labels_fingerprint(LABELS[::-1]), "others, or in another order"),
    ],
)
def test_a_verification_of_other_data_is_refused(
    tmp_path, samples, fingerprint, words
):
    given = verified(samples, fingerprint)
    with pytest.raises(ValueError, match=f"made on other data.*{words}"):
        write(tmp_path, verification=given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_verify_and_report_know_the_same_labels(tmp_path):
    x, y = data(20)
    model = convnet()
    file = kd.export.tflite(model, tmp_path / "s.tflite", verbose=False)
    options = {"latency_runs": 0, "measure_memory": False, "verbose": False}
    made = kd.export.verify(file, model, (x, y), **options)
    one_hot = keras.utils.to_categorical(y, 4)
    write(tmp_path, student=model, dataset=(x, one_hot), verification=made)
    other = np.roll(y, 1)
    assert (other != y).any()
    with pytest.raises(ValueError, match="made on other data"):
        write(
            tmp_path,
            "b.html",
            student=model,
            dataset=(x, other),
            verification=made,
        )


def test_pixels_and_the_void_of_the_compiled_loss(tmp_path):
    void = 255

    def network(seed, name):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [keras.Input((4, 4, 3)), layers.Conv2D(3, 1)], name=name
        )

    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4, 4, 3)).astype("float32")
    y = rng.integers(0, 3, (6, 4, 4))
    y[:, 0] = void
    distiller = kd.Distiller(
        student=network(0, "small"),
        teacher=network(1, "large"),
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=void
        ),
    )
    text, numbers = write(tmp_path, student=distiller, dataset=(x, y))
    assert numbers["data"]["decisions"] == 6 * 12
    assert numbers["data"]["kind"] == "pixels"
    assert "72 test pixels of 6 samples" in text
    decided = np.asarray(distiller.student(x)).argmax(-1)
    right = (decided == y)[y != void].mean()
    found = numbers["networks"]["student"]
    assert found["accuracy"] == pytest.approx(right)
    assert found["agreement_with_teacher"] is not None
    for row in numbers["disagreements"]:
        assert row["position"][0] > 0


def test_an_ignored_class(tmp_path):
    labels = np.array([0, 9, 1, 2])
    dataset = LOGITS, labels
    with pytest.raises(ValueError, match="such as 9.*`ignore_class`"):
        write(tmp_path, dataset=dataset)
    numbers = write(tmp_path, dataset=dataset, ignore_class=9)[1]
    assert numbers["networks"]["student"]["accuracy"] == 1.0
    assert numbers["data"]["decisions"] == 3


def test_weights_weigh_everywhere(tmp_path):
    weights = np.array([2.0, 0.0, 1.0, 1.0])
    text, numbers = write(
        tmp_path, teacher=teacher(), dataset=(LOGITS, LABELS, weights)
    )
    networks = numbers["networks"]
    assert networks["student"]["accuracy"] == 1.0
    assert networks["teacher"]["accuracy"] == 0.25
    assert networks["student"]["agreement_with_teacher"] == 0.25
    assert numbers["data"]["decisions"] == 3
    assert {row["sample"] for row in numbers["disagreements"]} == {0, 2}
    by_class = {row["class"]: row["samples"] for row in numbers["classes"]}
    assert by_class == {0: 2, 1: 1, 2: 1}
    assert sum(networks["student"]["reliability"]["counts"]) == 4
    assert "The sample weights weigh in every share" in text


def test_which_of_several_runs_is_told(tmp_path):
    numbers = write(
        tmp_path,
        accuracies={"alone": [0.5, 0.5], "distilled": [0.7, 0.75]},
        seeds=[3, 4],
    )[1]
    assert numbers["runs"]["exported"] == {
        "run": 1,
        "seed": 4,
        "accuracy": 0.75,
        "is_best": True,
    }
    assert "This student is run 2 of 2 (seed 4)" in " ".join(numbers["summary"])


def test_networks_may_be_the_student_alone(tmp_path):
    path = kd.write_report(
        tmp_path / "report.html", student(), (LOGITS, LABELS), verbose=False
    )
    numbers = json.loads(path.with_suffix(".json").read_text())
    assert list(numbers["networks"]) == ["student"]
