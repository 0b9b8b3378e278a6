"""Sidecars in the shape that photo programs write them, made for the tests."""

from __future__ import annotations

from typing import Final

_LIGHTROOM: Final = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000, 0000/00/00">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
   xmp:Rating="4"
   xmp:Label="Rot"
   dc:format="image/jpeg"
   photoshop:SidecarForExtension="{extension}"
   crs:Version="15.0"
   crs:Exposure2012="+0.35"
   xmpMM:DocumentID="xmp.did:1f2e3d4c">
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li
      stEvt:action="saved"
      stEvt:softwareAgent="Adobe Photoshop Lightroom Classic"
      stEvt:changed="/metadata"/>
    </rdf:Seq>
   </xmpMM:History>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Köln &amp; Rhein</rdf:li>
     <rdf:li>snow</rdf:li>
    </rdf:Bag>
   </dc:subject>{caption}
   <crs:ToneCurvePV2012>
    <rdf:Seq>
     <rdf:li>0, 0</rdf:li>
     <rdf:li>255, 255</rdf:li>
    </rdf:Seq>
   </crs:ToneCurvePV2012>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

_DIGIKAM: Final = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   digiKam:PickLabel="3"
   digiKam:ColorLabel="0"
   xmp:Rating="3"
   MicrosoftPhoto:Rating="50"
   tiff:Orientation="6">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>People/Zoë</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>{caption}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

_DARKTABLE: Final = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   exif:DateTimeOriginal="2019:07:14 18:22:10.000"
   xmp:Rating="1"
   xmpMM:DerivedFrom="IMG_1.jpg"
   darktable:import_timestamp="63706548130000000"
   darktable:xmp_version="5"
   darktable:raw_params="0"
   darktable:auto_presets_applied="1"
   darktable:history_end="2">
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="colorin"
      darktable:enabled="1"
      darktable:params="gz48eJzjZhgFowABWAbaAaNgwAEAEDgABg=="
      darktable:multi_name=""/>
     <rdf:li
      darktable:num="1"
      darktable:operation="exposure"
      darktable:enabled="1"
      darktable:params="000000000000a03f00004842000080c00000000000000000"
      darktable:multi_name="a &gt; b"/>
    </rdf:Seq>
   </darktable:history>
   <dc:creator>
    <rdf:Seq>
     <rdf:li>Ana</rdf:li>
    </rdf:Seq>
   </dc:creator>{caption}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

_CAPTION: Final = """
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">{}</rdf:li>
    </rdf:Alt>
   </dc:description>"""


def _made(shape: str, caption: str | None, extension: str = "jpg") -> bytes:
    text = shape.replace("{extension}", extension)
    return text.replace("{caption}", "" if caption is None else _CAPTION.format(caption)).encode()


def lightroom(caption: str | None = None, extension: str = "jpg") -> bytes:
    """One rdf:Description with simple properties as attributes; no XML declaration."""
    return _made(_LIGHTROOM, caption, extension)


def digikam(caption: str | None = None) -> bytes:
    """What Exiv2 writes for digiKam."""
    return _made(_DIGIKAM, caption)


def darktable(caption: str | None = None) -> bytes:
    """With an editing history in attributes of list items."""
    return _made(_DARKTABLE, caption)


PROGRAMS: Final = {"lightroom": lightroom, "digikam": digikam, "darktable": darktable}


def odd(name: str) -> bytes:
    """Legal XMP in forms that are seldom seen; none has a caption but where the name says so."""
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    dc = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    xmp = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    meta = '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    forms = {
        "crlf": digikam().decode().replace("\n", "\r\n"),
        "bom": "\ufeff" + lightroom().decode(),
        "packet": (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
            + lightroom().decode()
            + (" " * 99 + "\n") * 20
            + '<?xpacket end="w"?>'
        ),
        "one line": f'{meta}<rdf:RDF {rdf}><rdf:Description rdf:about="" {xmp} xmp:Rating="2"/></rdf:RDF></x:xmpmeta>',
        "no properties": f"{meta}\n <rdf:RDF {rdf}/>\n</x:xmpmeta>",
        "bare rdf": f'<rdf:RDF {rdf}>\n <rdf:Description rdf:about="" {xmp} xmp:Rating="2"/>\n</rdf:RDF>',
        "other prefixes": (
            '<R xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<Description r:about="" xmlns:dc="urn:not-dublin/" {xmp} dc:description="no caption" xmp:Rating="2">'
            "</Description></R>"
        )
        .replace("<R ", "<RDF ")
        .replace("</R>", "</RDF>"),
        "several blocks": (
            f'{meta}\n<rdf:RDF {rdf}>\n<rdf:Description rdf:about="" {xmp}>\n<xmp:Rating>2</xmp:Rating>\n'
            f'</rdf:Description>\n<!-- dc:description = "in a comment" -->\n<rdf:Description rdf:about="" {dc}>\n'
            "<dc:source>a &gt; b</dc:source>\n</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>"
        ),
        "empty caption": lightroom("").decode(),
        "blank caption": lightroom("  ").decode(),
        "empty element": digikam()
        .decode()
        .replace("\n  </rdf:Description>", "\n   <dc:description/>\n  </rdf:Description>"),
        "empty list": (
            digikam()
            .decode()
            .replace(
                "\n  </rdf:Description>",
                "\n   <dc:description><rdf:Alt/></dc:description>\n  </rdf:Description>",
            )
        ),
        "empty item": lightroom("").decode().replace('"x-default"></rdf:li>', "'x-default' />"),
        "empty attribute": lightroom().decode().replace(' dc:format="image/jpeg"', " dc:description = ''"),
    }
    return forms[name].encode()


ODD: Final = (
    *("crlf", "bom", "packet", "one line", "no properties", "bare rdf", "other prefixes", "several blocks"),
    *("empty caption", "blank caption", "empty element", "empty list", "empty item", "empty attribute"),
)
