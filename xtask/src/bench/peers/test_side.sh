#!/bin/sh
# A side of a comparison that does nothing, for the tests: it speaks the protocol, says that it took half a second (ours)
# or a whole one, and writes down in $LOG what it was told. Its outputs differ by $DIFFERENCE.
if [ "$1" = compare ]; then
    echo "{\"y.0\": $DIFFERENCE}"
    exit
fi
case "$1" in
*'"implementation":"ours"'*) name=ours seconds=0.5 ;;
*) name=candle seconds=1.0 ;;
esac
case "$1" in
*'"provider":true'*) touch "$2/inputs" ;;
*) [ -e "$2/inputs" ] || exit 3 ;;
esac
echo '{"versions": {"'$name'": "1.2"}}'
while read -r line; do
    echo "$name $line" >>"$LOG"
    case "$line" in
    run) echo '{"seconds": '$seconds', "parts": {"forward": 0.25}}' ;;
    report) echo '{"before_mib": 10, "peak_mib": 12.5, "figures": {"rate": 0.1}}' ;;
    outputs) echo '{}' ;;
    esac
    [ "$name $line" != "$FAIL" ] || exit 4
done
