# What has to be run is run on the machine that builds; the last stage only copies.
FROM --platform=$BUILDPLATFORM public.ecr.aws/docker/library/busybox:1.37 AS build
ARG TARGETARCH
WORKDIR /src
COPY site/ ./
RUN sed -i "s|@VERSION@|for $TARGETARCH|" index.html

FROM public.ecr.aws/docker/library/busybox:1.37
COPY --from=build /src /srv
USER 1000
EXPOSE 8080
CMD ["httpd", "-f", "-p", "8080", "-h", "/srv"]
