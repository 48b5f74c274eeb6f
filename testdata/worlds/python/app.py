import getpass
import sys

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def index():
    return jsonify(user=getpass.getuser(), prefix=sys.prefix)
