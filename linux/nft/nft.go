//go:build linux

package nft

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Element is one entry of a set (Value is nil) or a map. Key and Value hold each field padded to four bytes, in network
// byte order, as the kernel keeps concatenations in its registers.
type Element struct {
	Family byte // NFPROTO_* of the table; 0: inet
	Set    string
	Key    []byte
	Value  []byte
	End    []byte // for sets of intervals: the first key beyond; nil otherwise
}

// Add returns the batch that adds elements to sets of tables of one name. The kernel takes all of it or nothing. An
// element that a set has already changes nothing; a key that a map has already refuses the whole batch with EEXIST.
func Add(table string, es []Element) []byte {
	return batch(table, es, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE)
}

// Delete returns the batch that removes elements; one that is missing refuses the whole batch with ENOENT.
func Delete(table string, es []Element) []byte { return batch(table, es, unix.NFT_MSG_DELSETELEM, 0) }

func batch(table string, es []Element, message, flags uint16) []byte {
	var b builder
	seq := uint32(1)
	b.endMessage(b.header(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, seq, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	for _, e := range es {
		seq++
		how := unix.NLM_F_REQUEST | unix.NLM_F_ACK | flags
		if flags != 0 && e.Value != nil {
			how |= unix.NLM_F_EXCL
		}
		family := e.Family
		if family == 0 {
			family = unix.NFPROTO_INET
		}
		at := b.header(unix.NFNL_SUBSYS_NFTABLES<<8|message, how, seq, family, 0)
		b.string(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		b.string(unix.NFTA_SET_ELEM_LIST_SET, e.Set)
		list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		b.element(e.Key, e.Value, 0)
		if e.End != nil {
			b.element(e.End, nil, unix.NFT_SET_ELEM_INTERVAL_END)
		}
		b.end(list)
		b.endMessage(at)
	}
	b.endMessage(b.header(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, seq+1, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	return b
}

// Send gives a batch to the kernel of the calling thread's network namespace and returns its first refusal.
func Send(batch []byte) error {
	c, err := Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Send(batch)
}

// SendEach gives batches to the kernel, each on its own: one that is refused does not keep the others. It returns the first
// refusal that is not ENOENT: what is gone already is what a deletion wants.
//
// It does not wait for the socket's close. After a deletion the kernel (nft_rcv_nl_event) lets that wait until what was
// deleted is freed, a grace period of some milliseconds for each socket.
func SendEach(batches [][]byte) (first error) {
	if len(batches) == 0 {
		return nil
	}
	c, err := Dial()
	if err != nil {
		return err
	}
	defer func() { go c.Close() }()
	for _, b := range batches {
		if err := c.Send(b); err != nil && err != unix.ENOENT && first == nil {
			first = err
		}
	}
	return first
}

// Conn is a socket to the nftables of one network namespace: the one in which it was made, wherever it is used.
type Conn struct{ fd int }

// Dial makes one in the calling thread's namespace.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return &Conn{fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() { unix.Close(c.fd) }

// Send gives a batch to the kernel and returns its first refusal. Several threads may send at once: each reads what has
// come, and only refusals matter.
func (c *Conn) Send(batch []byte) error { return exchange(c.fd, batch) }

func exchange(fd int, batch []byte) error {
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to nftables: %w", err)
	}
	// nfnetlink works while sendto runs: every answer lies in the socket's queue by now.
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return fmt.Errorf("read from nftables: %w", err)
		}
		if err := firstError(buf[:n]); err != nil {
			return err
		}
	}
}

// firstError looks through answers for an NLMSG_ERROR that is not an acknowledgement.
func firstError(b []byte) error {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && n >= unix.SizeofNlMsghdr+4 {
			if e := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); e != 0 {
				return unix.Errno(-e)
			}
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}

func align(n int) int { return (n + 3) &^ 3 }

// builder appends netlink messages and attributes; lengths are filled in when a message or a nest ends.
type builder []byte

func (b *builder) header(kind, flags uint16, seq uint32, family byte, resource uint16) int {
	at := len(*b)
	*b = binary.NativeEndian.AppendUint32(*b, 0)
	*b = binary.NativeEndian.AppendUint16(*b, kind)
	*b = binary.NativeEndian.AppendUint16(*b, flags)
	*b = binary.NativeEndian.AppendUint32(*b, seq)
	*b = binary.NativeEndian.AppendUint32(*b, 0)
	*b = append(*b, family, unix.NFNETLINK_V0)
	*b = binary.BigEndian.AppendUint16(*b, resource)
	return at
}

func (b *builder) endMessage(at int) {
	binary.NativeEndian.PutUint32((*b)[at:], uint32(len(*b)-at))
}

func (b *builder) attribute(kind uint16, data []byte) {
	*b = binary.NativeEndian.AppendUint16(*b, uint16(4+len(data)))
	*b = binary.NativeEndian.AppendUint16(*b, kind)
	*b = append(*b, data...)
	*b = append(*b, make([]byte, align(len(data))-len(data))...)
}

func (b *builder) string(kind uint16, s string) { b.attribute(kind, append([]byte(s), 0)) }

func (b *builder) nest(kind uint16) int {
	at := len(*b)
	b.attribute(kind|unix.NLA_F_NESTED, nil)
	return at
}

func (b *builder) end(at int) { binary.NativeEndian.PutUint16((*b)[at:], uint16(len(*b)-at)) }

func (b *builder) element(key, value []byte, flags uint32) {
	e := b.nest(unix.NFTA_LIST_ELEM)
	k := b.nest(unix.NFTA_SET_ELEM_KEY)
	b.attribute(unix.NFTA_DATA_VALUE, key)
	b.end(k)
	if flags != 0 {
		b.attribute(unix.NFTA_SET_ELEM_FLAGS, binary.BigEndian.AppendUint32(nil, flags))
	}
	if value != nil {
		v := b.nest(unix.NFTA_SET_ELEM_DATA)
		b.attribute(unix.NFTA_DATA_VALUE, value)
		b.end(v)
	}
	b.end(e)
}
