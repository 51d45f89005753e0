#!/bin/sh
# What people look at when a guest on libvirt's network gets nowhere, in the order they do: one
# line for whatever looks wrong. Usage: usual.sh GUEST
guest=$1

[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 'ip_forward is 0'
[ "$(virsh domstate "$guest")" = running ] || echo "guest $guest does not run"
for network in $(virsh net-list --all --name); do
    virsh net-info "$network" | grep -q '^Active: *yes' || echo "network $network is not active"
done
virsh -q domiflist "$guest" | while read -r tap _ _ _ mac; do
    ip -o link show "$tap" | grep -q ' master ' || echo "$tap is a port of no bridge"
    ip -o link show "$tap" | grep -q '[<,]UP' || echo "$tap is down"
    virsh domif-getlink "$guest" "$tap" | grep -q ' up' || echo "the link of $tap is down"
    for network in $(virsh net-list --name); do
        virsh -q net-dhcp-leases "$network" | grep -q "$mac" || echo "no lease for $mac"
    done
done
for other in $(virsh list --name); do
    virsh -q domiflist "$other" | awk '{print $5}'
done | sort | uniq -d | sed 's/^/two guests have the MAC address /'
ss -lnu | grep -q ':67 ' || echo 'nobody serves DHCP'
ss -lnu | grep -qE '(0\.0\.0\.0|\*|\[::\]):53 ' && echo 'port 53 is taken'
nft list ruleset | grep -q masquerade || echo 'nothing is translated (no masquerade)'
iptables -S FORWARD | grep -q -- '-P FORWARD DROP' && echo 'the policy of FORWARD is DROP'
iptables -S INPUT | grep -q -- '-P INPUT DROP' && echo 'the policy of INPUT is DROP'
nft list tables | grep -q firewalld && echo 'firewalld runs'
gateway=$(virsh net-dumpxml default | sed -n "s/.*<ip address='\([^']*\)'.*/\1/p")
ip -o address | grep -q " $gateway/" || echo "nobody has the address $gateway"
for address in $(virsh -q domifaddr "$guest" | awk '{print $4}'); do
    ping -c 1 -W 1 "${address%/*}" >/dev/null || echo "${address%/*} does not answer the host"
done
exit 0
