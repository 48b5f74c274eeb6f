# Python as in its official image: `python` beside `python3`, and no note that
# another manager owns the packages.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED \
 && ln -s /usr/bin/python3 /usr/local/bin/python
COPY --from=machine pip.conf /etc/pip.conf
ENV LANG=C.UTF-8
CMD ["python3"]
