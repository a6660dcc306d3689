FROM python:3.14-slim

ENV PYTHONUNBUFFERED=1

# What it depends on is a layer of its own: a new version of ChatAPI does not fetch and ship it again.
COPY pyproject.toml /src/
RUN python -c "import tomllib; project = tomllib.load(open('/src/pyproject.toml', 'rb'))['project']; \
        print(*project['dependencies'], *project['optional-dependencies']['uvloop'], sep='\n')" > /src/requirements.txt \
    && pip install --no-cache-dir -r /src/requirements.txt

COPY . /src
RUN pip install --no-cache-dir --no-deps /src && rm -rf /src

# The base image comes without the bytecode of Python's own library, and the user below may not write it: else each start
# would compile what it loads, which doubles its time.
RUN chatapi serve --help > /dev/null

# A fixed id, so that the owner of a mounted directory can be set before the first start; and a number, since Kubernetes
# cannot tell of a name whether it is root.
RUN groupadd --gid 10001 chatapi \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin chatapi \
    && install -d -o 10001 -g 10001 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080

HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=4)"]

CMD ["chatapi", "serve", "--host", "0.0.0.0", "--port", "8080", "--db", "/data/chatapi.db"]
