package inputs

// Target is one of several services to update, and where it is.
type Target struct {
	// Cluster and Service are names or ARNs.
	Cluster, Service string
	// Container gets the image, and may be empty.
	Container string
}

// All are the services to update: one, as Cluster and Service have it, unless
// there are several. Without a service it is one without a name, for what is
// registered only.
func (d Deployment) All() []Target {
	return []Target{{Cluster: d.Cluster, Service: d.Service}}
}
