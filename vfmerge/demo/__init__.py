"""`vfmerge demo`: a page in the browser to try a merged model with, beside its parents.

exhibit.py    what one model answers                  questions.py  what may be asked, and how large
patches.py    what dense heads see in cells           projection.py features as colours
opening.py    the merged model and its parents        album.py      the pictures that are asked about
server.py     connections, requests, replies          service.py    which path does what
gate.py       who may ask                             turns.py      one after another
page/         what the browser shows
"""
