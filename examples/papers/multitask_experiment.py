"""The data, solvers and networks of multitask.py."""

import functools
import itertools

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd

# What one strength multiplies: costs that keep their ratios.
RATIOS = {
    "feature": [()],
    "clustering": [(3,), (5,), (8,)],
    "linf+l1": [(1.0,), (2.0,), (4.0,)],
    "rows+columns": [(0.5,), (1.0,), (2.0,)],
    "nuclear+l1": [(0.15,), (0.3,), (0.6,)],
    "nuclear+columns": [(0.3,), (0.6,), (1.2,)],
}


def structure(name, ratio, strength=1.0):
    """A structure of `RATIOS`, whose whole cost is multiplied by `strength`."""
    if name == "feature":
        return kd.multitask.FeatureTransformation(strength)
    if name == "clustering":
        return kd.multitask.TaskClustering(*ratio, strength, strength)
    first, second = name.split("+")
    costs = [(first, strength), (second, strength * ratio[0])]
    return kd.multitask.ParameterDecomposition(costs)


# Linear heads of tasks that have samples of their own: x is (tasks, samples,
# features), y (tasks, samples).


def ridge(x, y, strength):
    """-> the kernel of independent heads, `(features, tasks)`."""
    samples, features = x.shape[1:]
    gram = np.einsum("tnd,tne->tde", x, x) / samples
    right = np.einsum("tnd,tn->td", x, y) / samples
    gram = gram + strength * np.eye(features)
    return np.linalg.solve(gram, right[..., None])[..., 0].T


@functools.cache
def solver(name, ratio, steps):
    """-> a function `(x, y, kernel to start from, strength)` -> the kernel.

    Proximal gradient steps on half the mean squared error of each task, with
    Nesterov's momentum where the problem is convex.
    """
    made = structure(name, ratio)
    convex = name != "clustering"
    components = len(getattr(made, "components", [0]))

    def largest(x):
        return tf.reduce_max(tf.linalg.svd(x, compute_uv=False))

    @tf.function(reduce_retracing=True)
    def solve(x, y, kernel, strength):
        samples = tf.cast(tf.shape(x)[1], x.dtype)
        curvature = largest(x) ** 2 / samples * components
        parts = made.parts(kernel)
        ahead, weight = parts, tf.constant(1.0)
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                tape.watch(ahead)
                logits = tf.einsum("tnd,dt->tn", x, made.merge(ahead))
                loss = tf.reduce_sum((logits - y) ** 2) / (2 * samples)
                for key, regularizer in made.regularizers().items():
                    loss += strength * regularizer(ahead[key])
            slopes = tape.gradient(loss, ahead)
            rate = 1.0 / curvature
            if not convex:
                sizes = [largest(part) ** 2 for part in ahead.values()]
                rate = 0.5 / (curvature * tf.reduce_max(sizes) + 2.0 * strength)
            new = {key: ahead[key] - rate * slopes[key] for key in ahead}
            new = {**new, **made.shrink(new, rate * strength)}
            if convex:
                following = (1.0 + tf.sqrt(1.0 + 4.0 * weight**2)) / 2.0
                momentum = (weight - 1.0) / following
                ahead = {
                    k: new[k] + momentum * (new[k] - parts[k]) for k in new
                }
                weight = following
            else:
                ahead = new
            parts = new
        return made.merge(parts)

    return solve


def chosen(x, y, held_out, strengths, names, steps):
    """-> a dict structure -> its kernel, best on the held-out samples."""

    def error(kernel):
        logits = np.einsum("tnd,dt->tn", held_out[0], kernel)
        return np.mean((logits - held_out[1]) ** 2)

    def best(kernels):
        return min((k for k in kernels if np.isfinite(k).all()), key=error)

    found = {"ridge": best(ridge(x, y, s) for s in np.geomspace(1e-4, 30, 20))}
    tensors = [tf.constant(a, tf.float32) for a in (x, y, found["ridge"])]
    for name in names:
        found[name] = best(
            solver(name, ratio, steps)(
                *tensors, tf.constant(s, tf.float32)
            ).numpy()
            for ratio, s in itertools.product(RATIOS[name], strengths[name])
        )
    return found


# Synthetic tasks, whose kernels are known.

TRUTHS = (
    "rank 3",
    "overlapping groups",
    "3 outlier tasks",
    "shared and own features",
    "unrelated",
)


def truth(name, random, features=30, tasks=20):
    """-> a kernel `(features, tasks)` whose columns have length 1."""
    if name == "overlapping groups":
        shares = np.zeros((4, tasks))
        for task in range(tasks):
            groups = random.choice(4, random.integers(1, 3), replace=False)
            shares[groups, task] = random.normal(size=len(groups))
        kernel = random.normal(size=(features, 4)) @ shares
    elif name == "shared and own features":
        kernel = np.zeros((features, tasks))
        shared = random.choice(features, 5, replace=False)
        kernel[shared] = random.choice([-1, 1], (5, tasks))
        for task in range(tasks):
            own = random.choice(features, 2, replace=False)
            kernel[own, task] += random.normal(size=2)
    elif name == "unrelated":
        kernel = random.normal(size=(features, tasks))
    else:
        kernel = random.normal(size=(features, 3)) @ random.normal(
            size=(3, tasks)
        )
        if name == "3 outlier tasks":
            kernel /= np.linalg.norm(kernel, axis=0)
            kernel[:, :3] = random.normal(size=(features, 3))
    return kernel / np.linalg.norm(kernel, axis=0)


def synthetic(name, seed, names, steps):
    """-> a dict structure -> ||W' - W||^2 / ||W||^2."""
    random = np.random.default_rng(seed)
    kernel = truth(name, random)

    def samples(count=12):
        x = random.normal(size=(kernel.shape[1], count, kernel.shape[0]))
        noise = 0.1 * random.normal(size=x.shape[:2])
        return x, np.einsum("tnd,dt->tn", x, kernel) + noise

    strengths = {name: np.geomspace(1e-3, 0.5, 8) for name in names}
    strengths["feature"] = np.geomspace(1e-4, 0.1, 8)
    strengths["clustering"] = np.geomspace(1e-3, 0.1, 6)
    found = chosen(*samples(), samples(), strengths, names, steps)
    return {
        key: float(np.sum((value - kernel) ** 2) / np.sum(kernel**2))
        for key, value in found.items()
    }


# 45 tasks: one digit against another.


@functools.cache
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data / 16.0, data.target


def digit_pairs(fold, images, names, steps):
    """-> a dict structure -> mean test accuracy of 45 linear students.

    Each is taught by an RBF-SVM of its task, which sees the whole training
    fold; the student sees `images` of them, and as many choose the strength.
    """
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    x, labels = digits()
    random = np.random.default_rng([fold, images])
    split = StratifiedKFold(5, shuffle=True, random_state=fold // 5)
    train, test = list(split.split(x, labels))[fold % 5]
    few, held_out, tests, means = [], [], [], []
    accuracies = {"teacher": []}
    for pair in itertools.combinations(range(10), 2):
        mine = train[np.isin(labels[train], pair)]
        teacher = SVC(C=10.0).fit(x[mine], labels[mine])

        def outputs(rows, teacher=teacher):
            return np.clip(teacher.decision_function(x[rows]), -1, 1)

        # The digits in turn: as many of both, or one more.
        rows = np.ravel(
            [
                random.permutation(mine[labels[mine] == digit])[:images]
                for digit in pair
            ],
            order="F",
        )
        seen, choosing = rows[:images], rows[images:]
        mean, middle = x[seen].mean(axis=0), outputs(seen).mean()
        few.append((x[seen] - mean, outputs(seen) - middle))
        held_out.append((x[choosing] - mean, outputs(choosing) - middle))
        tested = test[np.isin(labels[test], pair)]
        is_second = labels[tested] == pair[1]
        accuracies["teacher"].append(
            np.mean((outputs(tested) > 0) == is_second)
        )
        tests.append((x[tested] - mean, is_second))
        means.append(middle)
    few, held_out = (
        tuple(np.stack(a) for a in zip(*sets)) for sets in (few, held_out)
    )
    strengths = {name: np.geomspace(1e-3, 0.1, 4) for name in names}
    strengths["feature"] = np.geomspace(1e-5, 3e-3, 6)
    strengths["clustering"] = np.geomspace(3e-4, 1e-2, 3)
    found = chosen(*few, held_out, strengths, names, steps)
    for name, kernel in found.items():
        accuracies[name] = [
            np.mean((images @ kernel[:, task] + means[task] > 0) == is_second)
            for task, (images, is_second) in enumerate(tests)
        ]
    return {name: float(np.mean(found)) for name, found in accuracies.items()}


# Attributes of Fashion-MNIST, one trunk, a teacher per attribute.

ATTRIBUTES = {
    "for the feet": (5, 7, 9),
    "closed shoe": (7, 9),
    "over the ankle": (9,),
    "upper body": (0, 2, 3, 4, 6),
    "long sleeves": (2, 4, 6),
    "opens in front": (4, 6),
    "one piece": (3,),
    "for the legs": (1, 3),
    "for warm days": (0, 3, 5),
    "for cold days": (2, 4, 9),
    "not worn": (8,),
}


def attributes(labels):
    """-> `(n, attributes)` of 0 and 1."""
    columns = [np.isin(labels, classes) for classes in ATTRIBUTES.values()]
    return np.stack(columns, axis=1).astype("float32")


def task_name(attribute):
    return attribute.replace(" ", "_")


def teachers_of(x, labels, epochs):
    """A perceptron per attribute: image -> the logits of all attributes.

    They share nothing, and are trained with labels side by side.
    """
    image = keras.Input(x.shape[1:])
    pixels = keras.layers.AveragePooling2D(2)(image)
    pixels = keras.layers.Flatten()(pixels)
    outputs = []
    for _ in ATTRIBUTES:
        hidden = keras.layers.Dense(64, activation="relu")(pixels)
        outputs.append(keras.layers.Dense(1)(hidden))
    model = keras.Model(image, keras.layers.Concatenate()(outputs))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(x, attributes(labels), batch_size=64, epochs=epochs, verbose=0)
    return model


def student_of(made):
    """A shared trunk and one head per attribute."""
    image = keras.Input((28, 28, 1))
    x = keras.layers.AveragePooling2D(2)(image)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(32, activation="relu", name="trunk")(x)
    tasks = {task_name(attribute): 1 for attribute in ATTRIBUTES}
    logits = kd.multitask.Heads(tasks, made, name="heads")(x)
    joined = [logits[task] for task in tasks]
    return keras.Model(image, keras.layers.Concatenate()(joined))


def distilled(made, teacher, x, seed, epochs):
    """-> a student that saw the teachers' outputs on `x`, and no label."""
    keras.utils.set_random_seed(seed)
    student = student_of(made)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(activation="sigmoid"),
        alpha=1.0,
    )
    steps = epochs * -(-len(x) // 50)
    rate = keras.optimizers.schedules.CosineDecay(0.2, steps)
    distiller.compile(keras.optimizers.SGD(rate, momentum=0.9))
    data = kd.datasets.batches(x, batch_size=50, seed=seed)
    distiller.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
    return student


def cross_entropy(teacher, student, x):
    wanted = keras.ops.sigmoid(teacher(x))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return float(loss(wanted, student(x)))


def accuracy(model, x, labels):
    decisions = keras.ops.convert_to_numpy(model(x)) > 0
    return float(np.mean(decisions == attributes(labels)))
