package inputs

// resultDefinitions are about what a build makes and where it goes.
func resultDefinitions() []Definition {
	return []Definition{
		{
			Name: "tags", Group: groupBuild,
			Description: "Tags for the image, one a line or with commas: bare tags, which need `repository`, or full references. Default with `repository`: the first 12 digits of the commit.",
		},
		{
			Name: "push", Group: groupBuild,
			Description: "Whether to push the image: `true` or `false`. Default: `true` when there is a tag, unless `outputs` has lines and none of them is an image.",
		},
		{
			Name: "platforms", Group: groupBuild,
			Description: "Platforms to build for, such as `linux/amd64,linux/arm64`, one a line or with commas. Several make an index. Default: the runner's.",
		},
		{
			Name: "merge-digests", Group: groupBuild,
			Description: "Digests that other jobs have pushed with `outputs: type=image,push-by-digest=true`, one a line, `REPOSITORY@` before those of other repositories. Nothing is built: they become one index under `tags`.",
		},
		{
			Name: "outputs", Group: groupBuild,
			Description: "Where else the result goes, lines of `type=oci|docker|tar|local,dest=PATH`, and how it is pushed: `type=image,push-by-digest=true`, `oci-mediatypes=false`, `annotation.KEY=value`. See docs/outputs.md.",
		},
		{
			Name: "annotations", Group: groupBuild,
			Description: "Annotations, lines of `KEY=value`, before which `manifest:`, `index:`, `manifest-descriptor:` or `index-descriptor:` may stand, with a platform as in `manifest[linux/arm64]:`. Default: `manifest:`.",
		},
		{
			Name: "source-date-epoch", Group: groupBuild,
			Description: "Latest time in the image's new layers and configuration, for builds that give the same digest again: seconds since 1970, `commit` for the time of the commit that is checked out, or `context` for that of a Git or HTTP context. Default: SOURCE_DATE_EPOCH in the environment.",
		},
		{
			Name: "compression", Group: groupBuild, Default: CompressionGzip,
			Description: "How the image's new layers are packed: `gzip`, which everything reads, or `zstd`, which is smaller and faster to unpack. ECR, Fargate, containerd and Docker since 23 read both. The level is an attribute of `outputs`.",
		},
		{
			Name: "provenance", Group: groupBuild,
			Description: "SLSA provenance to attach to the image: `false`, `true` for `mode=min`, or `mode=min|max`, after which `version=v1|v0.2`, `builder-id=URI` and `reproducible=true` may stand, with commas. The digest is then that of an index. Default: none. See docs/attestations.md.",
		},
		{
			Name: "sbom", Group: groupBuild,
			Description: "Whether to attach a list of the image's packages (SPDX): `true` or `false`. Default: `false`.",
		},
		{
			Name: "attests", Group: groupBuild,
			Description: "Attestations as docker build writes them, lines of `type=provenance,mode=max` or `type=sbom`, with `disabled=true` for none. What `provenance` and `sbom` say wins.",
		},
		{
			Name: "call", Group: groupBuild, Default: CallBuild,
			Description: "What to ask of the Dockerfile: `build`; or, in place of all that, `check` to have it linted, `outline` for its arguments, `targets` for its stages.",
		},
	}
}

// machineDefinitions are about how a build runs.
func machineDefinitions() []Definition {
	return []Definition{
		{
			Name: "sandbox", Group: groupBuild, Default: SandboxAuto,
			Description: "Where RUN steps run: `auto`, `namespaces`, `in-place` or `chroot`. Anything but `auto` fails where it cannot be had.",
		},
		{
			Name: "cache", Group: groupBuild, Default: "true",
			Description: "Whether to keep the results of build steps for the next run, where neither `cache-from` nor `cache-to` says how: under the tag `towline-cache-...` of the private ECR repository that the image is pushed to. See docs/caching.md.",
		},
		{
			Name: "cache-from", Group: groupBuild,
			Description: "Caches to take results of build steps from, lines of `type=registry,ref=REFERENCE` or a reference alone (also of an image that holds its cache), `type=local,src=FOLDER` or `type=gha,scope=NAME`. Those of buildx can be read. See docs/caching.md.",
		},
		{
			Name: "cache-to", Group: groupBuild,
			Description: "Where to put the results of build steps, lines of `type=registry,ref=REFERENCE,mode=min|max`, `type=local,dest=FOLDER,mode=...`, `type=gha,scope=NAME,mode=...` or `type=inline`, which is the image itself. `min` keeps those of the image's own layers, `max` those of all stages. Buildx can read them. Default of mode: `min`.",
		},
		{
			Name: "cache-mounts", Group: groupBuild, Default: "true",
			Description: "Whether to keep the folders of `RUN --mount=type=cache` for the next run, beside the results of build steps.",
		},
		{
			Name: "cache-mounts-max-size", Group: groupBuild,
			Description: "How large the files in all these folders together may be, such as `500m`. Beyond it, whole folders are not kept, first those that have not been used for longest. Default: `4g`.",
		},
		{
			Name: "no-cache", Group: groupBuild, Default: "false",
			Description: "Whether to take nothing from a cache: `true` or `false`.",
		},
		{
			Name: "no-cache-filters", Group: groupBuild,
			Description: "Stages that take nothing from a cache, one a line or with commas.",
		},
		{
			Name: "pull", Group: groupBuild, Default: "false",
			Description: "Whether to look base images up in their registry, which is always done: `true` and `false` are the same.",
		},
		{
			Name: "add-hosts", Group: groupBuild,
			Description: "Further hosts for RUN steps, `HOST:IP`, one a line or with commas.",
		},
		{
			Name: "network", Group: groupBuild, Default: "default",
			Description: "Network of RUN steps: `default`, `none` or `host`.",
		},
		{
			Name: "shm-size", Group: groupBuild,
			Description: "Size of /dev/shm in RUN steps, such as `128m`.",
		},
		{
			Name: "ulimit", Group: groupBuild,
			Description: "Limits of RUN steps, `NAME=SOFT[:HARD]`, one a line or with commas.",
		},
		{
			Name: "cgroup-parent", Group: groupBuild,
			Description: "Control group of RUN steps. They stay in the step's own: this gives a warning.",
		},
		{
			Name: "allow", Group: groupBuild,
			Description: "Rights for the build, one a line or with commas. `network.host` needs none here; `security.insecure` is never given.",
		},
		{
			Name: "builder", Group: groupBuild,
			Description: "Not needed: there is no builder to name.",
		},
		{
			Name: "load", Group: groupBuild, Default: "false",
			Description: "Not needed: there is no Docker engine to load the image into. `outputs: type=docker,dest=PATH` writes what `docker load` reads.",
		},
	}
}
