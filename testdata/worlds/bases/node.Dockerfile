# Node as in its official image: npm is one folder of its own. Debian's npm, which
# is some hundred packages, only fetches it.
FROM debian:bookworm-slim AS node
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nodejs \
 && rm -rf /var/lib/apt/lists/*

FROM node AS npm
COPY --from=machine npmrc /etc/npmrc
RUN apt-get update \
 && apt-get install --yes --no-install-recommends npm
RUN npm install --global --prefix /npm npm@10.9.2

FROM node
RUN groupadd --gid 1000 node \
 && useradd --uid 1000 --gid node --shell /bin/bash --create-home node
COPY --from=npm /npm/ /usr/local/
COPY --from=machine npmrc /usr/local/etc/npmrc
CMD ["node"]
