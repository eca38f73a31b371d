"""Debian's free fonts: the packages, their files, and what they draw."""

import pathlib
import string
from typing import NamedTuple

import numpy as np


class Package(NamedTuple):
    """A font package of Debian main."""

    name: str
    files: str
    licence: str


# No two packages draw the same design under two names.
LATIN = tuple(
    Package(*row)
    for row in (
        ("fonts-3270", "truetype/3270/*", "BSD-3-Clause"),
        ("fonts-adf-accanthis", "truetype/adf/Accanthis*", "GPL-2+ with FE"),
        ("fonts-adf-baskervald", "truetype/adf/Baskervald*", "GPL-2+ with FE"),
        ("fonts-adf-gillius", "truetype/adf/Gillius*", "GPL-2+ with FE"),
        ("fonts-adf-ikarius", "truetype/adf/Ikarius*", "GPL-2+ with FE"),
        ("fonts-adf-irianis", "truetype/adf/IrianisADFStd*", "GPL-2+ with FE"),
        ("fonts-adf-mekanus", "truetype/adf/MekanusADFS*", "GPL-2+ with FE"),
        ("fonts-adf-oldania", "truetype/adf/Oldania*", "GPL-2+ with FE"),
        ("fonts-adf-romande", "truetype/adf/RomandeADFN*", "GPL-2+ with FE"),
        ("fonts-adf-switzera", "truetype/adf/Switzera*", "GPL-2+ with FE"),
        ("fonts-adf-tribun", "truetype/adf/Tribun*", "GPL-2+ with FE"),
        ("fonts-adf-universalis", "truetype/adf/Univ*", "GPL-2+ with FE"),
        ("fonts-agave", "truetype/agave/*", "MIT"),
        ("fonts-anonymous-pro", "truetype/anonymous-pro/*", "OFL-1.1"),
        ("fonts-arapey", "opentype/arapey/*", "OFL-1.1"),
        ("fonts-averia-gwf", "truetype/averia-gwf/*", "OFL-1.1"),
        ("fonts-b612", "opentype/b612/*", "OFL-1.1"),
        ("fonts-breip", "truetype/breip/*", "OFL-1.0"),
        ("fonts-cabin", "opentype/cabin/*", "OFL-1.1"),
        ("fonts-cantarell", "opentype/cantarell/*", "OFL-1.1"),
        ("fonts-comfortaa", "truetype/comfortaa/*", "OFL-1.1"),
        ("fonts-comic-neue", "opentype/comic-neue/*", "OFL-1.1"),
        ("fonts-courier-prime", "opentype/courier-prime/*", "OFL-1.1"),
        ("fonts-crosextra-caladea", "truetype/crosextra/Cal*", "Apache-2.0"),
        ("fonts-crosextra-carlito", "truetype/crosextra/Car*", "OFL-1.1"),
        ("fonts-dancingscript", "opentype/dancingscript/*", "OFL-1.1"),
        ("fonts-dejavu-core", "truetype/dejavu/DejaVuS*", "Bitstream Vera"),
        ("fonts-dkg-handwriting", "truetype/fifthhorseman/*", "OFL-1.1"),
        ("fonts-dosis", "opentype/dosis/*", "OFL-1.1"),
        ("fonts-ebgaramond", "opentype/ebgaramond/*", "OFL-1.1"),
        ("fonts-ecolier-court", "truetype/ecolier-court/*", "OFL-1.1"),
        ("fonts-essays1743", "truetype/essays1743/*", "OFL-1.1 or LGPL-2.1"),
        ("fonts-eurofurence", "truetype/eurofurence/*", "OFL-1.1"),
        ("fonts-fantasque-sans", "opentype/fantasque-sans/N*l/*/*", "OFL-1.1"),
        ("fonts-femkeklaver", "truetype/femkeklaver/*", "CC-BY-SA-3.0"),
        ("fonts-freefont-ttf", "truetype/freefont/*", "GPL-3+ with FE"),
        ("fonts-gnutypewriter", "truetype/gnutypewriter/*", "OFL-1.1"),
        ("fonts-go", "fonts-go/Go-[!S]*", "BSD-3-Clause"),
        ("fonts-goudybookletter", "opentype/sortsmill/Goudy*", "public domain"),
        ("fonts-inconsolata", "truetype/inconsolata/*", "OFL-1.0"),
        ("fonts-isabella", "truetype/isabella/*", "LGPL-2+"),
        ("fonts-junction", "opentype/junction/*", "OFL-1.1"),
        ("fonts-jura", "opentype/jura/*", "OFL-1.1"),
        ("fonts-kaushanscript", "opentype/kaushanscript/*", "OFL-1.1"),
        ("fonts-kristi", "truetype/kristi/*", "OFL-1.1"),
        ("fonts-lato", "truetype/lato/*", "OFL-1.1"),
        ("fonts-leckerli-one", "truetype/leckerli-one/*", "OFL-1.1"),
        ("fonts-liberation", "truetype/liberation/*", "GPL-2 with FE"),
        ("fonts-lindenhill", "truetype/lindenhill/*", "MIT"),
        (
            "fonts-linuxlibertine",
            "opentype/linux-libertine/LinL*_R*",
            "OFL-1.1",
        ),
        ("fonts-lobstertwo", "opentype/lobstertwo/*", "OFL-1.1"),
        ("fonts-manrope", "truetype/manrope/*", "OFL-1.1"),
        ("fonts-monofur", "truetype/monofur/*", "OFL-1.1"),
        ("fonts-mononoki", "truetype/mononoki/*", "OFL-1.1"),
        ("fonts-national-park", "opentype/national-park/*", "OFL-1.1"),
        ("fonts-ocr-a", "truetype/ocr-a/*", "public domain"),
        ("fonts-ocr-b", "opentype/ocr-b/OCRB[.L]*", "public domain"),
        ("fonts-oldstandard", "truetype/fonts-oldstandard/*", "OFL-1.1"),
        ("fonts-open-sans", "truetype/open-sans/*", "Apache-2.0"),
        ("fonts-opendin", "truetype/opendin/*", "OFL-1.1"),
        ("fonts-paratype", "truetype/paratype/*", "ParaType Free Font"),
        ("fonts-play", "truetype/play/*", "OFL-1.1"),
        ("fonts-prociono", "opentype/fonts-prociono/*", "public domain"),
        ("fonts-quattrocento", "opentype/quattrocento/*", "OFL-1.1"),
        ("fonts-quicksand", "truetype/quicksand/*", "OFL-1.1"),
        ("fonts-roboto-slab", "opentype/roboto/slab/*", "Apache-2.0"),
        ("fonts-roboto-unhinted", "truetype/roboto/*/*/*", "Apache-2.0"),
        ("fonts-rufscript", "truetype/rufscript/*", "GPL-3+ with FE"),
        ("fonts-sil-andika", "truetype/andika/*", "OFL-1.1"),
        ("fonts-sil-gentium-basic", "truetype/gentium-basic/*", "OFL-1.1"),
        ("fonts-vollkorn", "truetype/vollkorn/*", "OFL-1.1"),
        ("fonts-yanone-kaffeesatz", "opentype/yanone*/*", "OFL-1.1"),
    )
)
JAPANESE = tuple(
    Package(*row)
    for row in (
        ("fonts-aoyagi-kouzan-t", "truetype/aoyagi-k*/*", "public domain"),
        ("fonts-aoyagi-soseki", "truetype/aoyagi-s*/*", "public domain"),
        ("fonts-dejima-mincho", "truetype/dejima-mincho/*", "MIT"),
        ("fonts-ipaexfont-mincho", "opentype/ipaexfont-mincho/*", "IPA-1.0"),
        ("fonts-ipafont-gothic", "opentype/ipafont-gothic/*", "IPA-1.0"),
        ("fonts-komatuna", "truetype/komatuna/*", "CC-BY-SA-3.0"),
        ("fonts-motoya-l-cedar", "truetype/motoya-l-cedar/*", "Apache-2.0"),
        ("fonts-motoya-l-maruberi", "truetype/motoya-l-m*/*", "Apache-2.0"),
        ("fonts-sawarabi-gothic", "truetype/sawarabi-gothic/*", "CC-BY-3.0"),
        ("fonts-sawarabi-mincho", "truetype/sawarabi-mincho/*", "OFL-1.1"),
    )
)

_GREEK = "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπρστφχψω"
_CYRILLIC = "БДЖЗИЙЛЦЧШЩЫЭЮЯб"
_ACCENTED = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïñòóôõöøùúûüýþÿ"


def characters() -> str:
    """The characters in the order in which a number of classes takes them.

    Digits, Latin letters, then the letters of the Greek and the Cyrillic
    alphabet that look like no Latin one, accented letters, and the 2965 kanji
    of the first level of JIS X 0208.
    """
    kanji = "".join(
        bytes((row, cell)).decode("euc_jp", errors="ignore")
        for row in range(0xA0 + 16, 0xA0 + 48)
        for cell in range(0xA1, 0xFF)
    )
    latin = string.digits + string.ascii_uppercase + string.ascii_lowercase
    return latin + _GREEK + _CYRILLIC + _ACCENTED + kanji


def installed(directory: pathlib.Path, table: tuple[Package, ...]) -> dict:
    """Returns package name -> its font files, of what is installed."""
    found = {}
    for package in table:
        files = sorted(
            path
            for path in directory.glob(package.files)
            if path.suffix.lower() in (".ttf", ".otf", ".ttc")
        )
        if files:
            found[package.name] = files
    return found


class Drawn(NamedTuple):
    """What a font draws: classes, and the frame around most of them.

    `top` and `bottom` are heights over the baseline, as shares of the em.
    """

    classes: np.ndarray
    top: float
    bottom: float


def drawn(file: pathlib.Path, classes: str) -> Drawn | None:
    """Returns which of the characters a font draws, each in its own way.

    A character counts if the font's character map has it, its glyph is not
    blank, and no earlier one of `classes` looks the same: a font without small
    letters draws capitals in their place.
    """
    from matplotlib import ft2font
    from PIL import ImageFont

    charmap = ft2font.FT2Font(str(file)).get_charmap()
    em = 48
    font = ImageFont.truetype(
        str(file), em, layout_engine=ImageFont.Layout.BASIC
    )
    missing = font.getmask("\uffff")
    seen = {(missing.size, bytes(missing))}
    kept, edges = [], []
    for index, character in enumerate(classes):
        if not charmap.get(ord(character)):
            continue
        glyph = font.getmask(character)
        look = (glyph.size, bytes(glyph))
        if not glyph.getbbox() or look in seen:
            continue
        seen.add(look)
        kept.append(index)
        _, top, _, bottom = font.getbbox(character, anchor="ls")
        edges.append((-top / em, -bottom / em))
    if not kept:
        return None
    top, bottom = np.quantile(edges, 0.9, 0)[0], np.quantile(edges, 0.1, 0)[1]
    return Drawn(np.array(kept), float(top), float(bottom))
