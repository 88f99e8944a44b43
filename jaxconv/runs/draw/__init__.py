"""The page on which one draws for a trained net, `draw.html`: `page` writes it, once, from Jinja.

Its JavaScript is three files: `net.js` computes what the net computes, `digit.js` what
`jaxconv.data.prepare_digit` does, and `draw.js` is the canvas and the bars. The folder may import
its own room, `runs`, and the rooms below.
"""

from jaxconv.runs.draw.page import write_draw_page as write_draw_page
