# Debian, with apt and dpkg set up as in its official image, on what mmdebstrap made.
FROM debian:bookworm-root
RUN <<'EOF'
set -eu
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/docker-apt-speedup
printf 'path-exclude /usr/share/%s/*\n' doc info locale man >/etc/dpkg/dpkg.cfg.d/docker
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
cat >/etc/apt/apt.conf.d/docker-clean <<'CONF'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
CONF
EOF
CMD ["bash"]
