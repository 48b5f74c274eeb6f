package registry

import "maps"

// Quiet is the same client, with its logins and what it has found out, whose
// events nobody receives: for what goes on beside another phase's log.
func (c *Client) Quiet() *Client {
	opts := c.opts
	opts.Events = func(Event) {}
	c.mu.Lock()
	defer c.mu.Unlock()
	settings := map[string]*Repository{}
	maps.Copy(settings, c.settings)
	return &Client{
		opts: opts, logins: c.logins, puller: c.puller, pusher: c.pusher, blobs: c.blobs, mirrors: c.mirrors,
		resolved: map[string]*resolution{}, early: map[string]Event{}, settings: settings,
	}
}
