package inputs

func dryRunDefinitions() []Definition {
	return []Definition{{
		Name: "dry-run", Group: groupDeployment, Default: "false",
		Description: "Whether to end after pre-flight, with a plan of what would be built, pushed, registered and updated, and nothing written: `true` or `false`. See docs/preflight.md.",
	}}
}

// dryRun reads whether anything is to be written.
func (p *parser) dryRun(s *Settings) {
	s.DryRun = p.boolean("dry-run", false)
	if s.DryRun && s.Resumes() {
		p.failf("dry-run", p.values["dry-run"], "Remove it: the service's deployment is either continued or rolled back, or left as it is.",
			"there is nothing to plan for \"continue-deployment\" and \"rollback-deployment\"")
	}
}
