"""The step that chooses how to teach, and what follows from its settings."""

from keras_distill.recipes import rule

# What the races choose. Who fixes one of them fixes how to teach.
CHOSEN = ("temperature", "alpha", "learning_rate", "crop_area", "attention")


def choose(run, bar):
    """Settles how to teach: by races, or by the rule where there are none."""
    settings, data = run.settings, run.data
    labels = data.train[1] is not None
    text = ""
    races = not run.skips("choose") and len(data.validation[0])
    if races and not set(CHOSEN) & set(settings.fixed):
        from keras_distill.diagnosis.choosing import choose as chosen

        choice = chosen(
            student=run.student(),
            teacher=run.teacher,
            x=data.train[0],
            y=data.train[1],
            validation_data=data.validation,
            unlabelled=data.unlabelled,
            steps=settings["steps"],
            batch_size=settings["batch_size"],
            cache_directory=run.folder.work("teacher_outputs"),
            seed=settings["seed"],
        )
        for name in CHOSEN:
            settings.settle(name, **choice.settings[name])
        text = str(choice)
    else:
        ruled = rule.settings(
            samples=len(data.train[0]),
            steps=settings["steps"],
            batch_size=settings["batch_size"],
            unlabelled=0 if data.unlabelled is None else len(data.unlabelled),
            labels=labels,
            random_views=settings.fixed.get("crop_area") is not None,
            student=run.student(),
        )
        for name in CHOSEN[:4]:
            why = f"the rule: {ruled.why[name]}"
            settings.settle(name, getattr(ruled, name), why)
        settings.settle("attention", False, "the rule: outputs alone")
    _check(settings, labels, data.unlabelled is None)
    bar.note(_words(settings))
    return {"text": text}


def _check(settings, labels, all_labelled):
    """Raises if the settings need labels that are not there."""
    if not labels and not distils(settings):
        raise ValueError(
            "settings['temperature']=None trains the student alone, which "
            "needs labels, and data has none."
        )
    alpha = settings["alpha"]
    if alpha < 1 and distils(settings) and not (labels and all_labelled):
        raise ValueError(
            "settings['alpha'] must be 1 where images have no label: the "
            f"teacher labels them. Received: {alpha}"
        )


def distils(settings):
    """Whether a teacher takes part: not if training alone won the races."""
    return settings["temperature"] is not None


def candidate(run, student):
    """The settings as `kd.choose` has them: losses, views, alpha."""
    from keras_distill.diagnosis.choosing import candidates

    settings = run.settings
    views = taps = None
    if settings["crop_area"] is not None:
        size = tuple(run.data.train[0].shape[1:3])
        views = rule.crops(size, settings["crop_area"])
    if settings["attention"]:
        taps = candidates.last_pair(run.teacher, student)
        if taps is None:
            raise ValueError(
                "settings['attention'] compares layers inside of the networks, "
                f"and those of '{run.given_teacher.name}' cannot be seen (a "
                "black box gives its output only). Set attention=False."
            )
    return candidates.Candidate(
        "settings",
        settings["temperature"],
        settings["alpha"],
        settings["learning_rate"],
        views=views,
        taps=taps,
    )


def _words(settings):
    if not distils(settings):
        return "training alone won the races: there is nothing to distil"
    words = [
        f"temperature {settings['temperature']:g}",
        f"alpha {settings['alpha']:g}",
        f"rate {settings['learning_rate']:g}",
    ]
    words += ["crops"] if settings["crop_area"] is not None else []
    words += ["attention maps"] if settings["attention"] else []
    return f"{', '.join(words)} (settings.yaml says why)"
