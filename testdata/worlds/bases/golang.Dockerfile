# Go as in its official image, with this machine's own toolchain.
FROM debian:bookworm-slim
COPY --from=goroot . /usr/local/go/
ENV GOLANG_VERSION=local GOTOOLCHAIN=local GOPATH=/go PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN mkdir -p "$GOPATH/src" "$GOPATH/bin" && chmod -R 1777 "$GOPATH"
WORKDIR $GOPATH
CMD ["bash"]
