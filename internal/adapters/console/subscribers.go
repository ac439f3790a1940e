package console

func (c *Console) serveSubscribers() {}
