# What the case installs, as an archive that apt reads.
FROM debian:bookworm-slim
RUN apt-get update && mkdir -p /debs/partial \
 && apt-get -o Dir::Cache::archives=/debs install --yes --download-only --no-install-recommends curl git nginx-light python3 \
 && rm -rf /debs/partial /debs/lock
RUN apt-get install --yes --no-install-recommends apt-utils \
 && cd /debs && apt-ftparchive packages . | sed 's|^Filename: ./|Filename: |' >Packages

FROM scratch
COPY --from=0 /debs /
