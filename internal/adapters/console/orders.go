package console

func (c *Console) serveOrders() {}
