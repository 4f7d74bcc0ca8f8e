"""A long command goes on in the next line (style.css), but is not broken within the name of an option."""

import re

BLOCK = re.compile(r"<pre>.*?</pre>", flags=re.DOTALL)
OPTION = re.compile(r"(?<=[\s>])--?[a-z][\w-]*")


def keep_together(app, pagename, templatename, context, doctree):
    if "body" in context:
        context["body"] = BLOCK.sub(
            lambda block: OPTION.sub(r'<span class="option-name">\g<0></span>', block[0]), context["body"]
        )


def setup(app):
    app.connect("html-page-context", keep_together)
    return {"parallel_read_safe": True}
