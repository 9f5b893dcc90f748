"""The Portuguese lexicon and grammar of the rule-made pairs; it prefers words common to both standards."""

from pairjax.data.rules.entries import parse_dimensions, parse_opposites, parse_verbs
from pairjax.data.rules.words import (
    Adjective,
    Bound,
    Change,
    Dimension,
    Field,
    Frames,
    Grammar,
    Implicative,
    Kind,
    Lexicon,
    Noun,
    Opposites,
    Quantifier,
    Verb,
)

NUMBERS = ("zero", "um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove", "dez")
BOUNDS: dict[Bound, str] = {
    "exactly": "exatamente",
    "at_least": "pelo menos",
    "at_most": "no máximo",
    "more_than": "mais de",
    "fewer_than": "menos de",
}


def _plural(word: str) -> str:
    head, blank, tail = word.partition(" ")
    if head.endswith("ão"):
        head = head[:-2] + "ões"
    elif head.endswith(("r", "z", "s")):
        head += "es"
    elif head.endswith("el"):
        head = head[:-2] + "éis"
    elif head.endswith("al"):
        head = head[:-1] + "is"
    elif head.endswith("m"):
        head = head[:-1] + "ns"
    else:
        head += "s"
    return head + blank + tail


def _nouns(entries: str) -> tuple[Noun, ...]:
    """Parses nouns: "caixa" is feminine by its ending, "f:vez" names the gender, "m:cão:cães" also the plural."""
    nouns = []
    for entry in entries.replace("_", " ").split(","):
        parts = entry.strip().split(":")
        if len(parts) == 1:
            parts = ["f" if parts[0].split()[0].endswith(("a", "ã")) else "m", parts[0]]
        nouns.append(Noun(parts[1], parts[2] if len(parts) > 2 else _plural(parts[1]), parts[0]))
    return tuple(nouns)


def _verb(entry: str) -> Verb:
    if ":" in entry:
        return Verb(*entry.split(":"))
    stem, ending = entry[:-2], entry[-2:]
    return Verb(entry, stem + {"ar": "ou", "er": "eu", "ir": "iu"}[ending], stem + ("ado" if ending == "ar" else "ido"))


def _verbs(entries: str) -> tuple[tuple[Verb, ...], ...]:
    """Parses groups of synonyms."""
    return parse_verbs(entries, _verb)


def _adjective(word: str) -> Adjective:
    """Inflects an adjective: -o for gender and number, -vel for number; a phrase ("por assinar") does not inflect."""
    if " " in word:
        return Adjective(word, word, word, word)
    if word.endswith("o"):
        return Adjective(word, word[:-1] + "a", word + "s", word[:-1] + "as")
    plural = word[:-2] + "eis" if word.endswith("el") else word + "s"
    return Adjective(word, word, plural, plural)


def _opposites(entries: str) -> tuple[Opposites, ...]:
    """Parses opposites; adjectives inflect."""
    return parse_opposites(entries, _adjective)


def _dimensions(entries: str) -> tuple[Dimension, ...]:
    """Parses dimensions; "[o]" becomes the ending for the gender of the first noun phrase."""
    return parse_dimensions(entries, lambda text: (text.replace("[o]", "o"), text.replace("[o]", "a")))


def _kinds(entries: str) -> tuple[Kind, ...]:
    split = (entry.split("=") for entry in entries.split(";"))
    return tuple(Kind(_nouns(name)[0], _nouns(members)) for name, members in split)


PEOPLE = _nouns(
    "enfermeira, piloto, médica, empregado, professora, agricultor, padeiro, advogada, cantora, cozinheiro, "
    "m:motorista, pintora, jardineiro, m:guarda, juíza, marinheiro, f:atriz, escritor, banqueira, barbeiro, "
    "carniceiro, carpinteiro, química, treinador, bailarina, m:dentista, mergulhador, engenheira, m:eletricista, "
    "pescador, m:florista, geóloga, caçador, joalheiro, m:jornalista, bibliotecária, mágico, f:cientista, mecânico, "
    "mineiro, m:monge, f:romancista, farmacêutica, filósofo, fotógrafa, m:poeta, m:padre, diretora, príncipe, rainha, "
    "f:repórter, secretária, senador, m:pastor, soldado, f:estudante, cirurgiã, m:alfaiate, tradutora, m:violinista, "
    "tecelã, viúva, m:escultor, inspetora"
)
PLACE_NOUNS = _nouns(
    "biblioteca, museu, porto, f:estação, hospital, igreja, m:hotel, escola, teatro, castelo, padaria, f:prisão, "
    "celeiro, taberna, laboratório, farmácia, fábrica, moinho, estádio, m:cinema, embaixada, mosteiro, aeroporto, "
    "farol, palácio, galeria, banco, circo"
)
THING_VERBS = _verbs(
    "reparar/consertar comprar/adquirir esconder/ocultar examinar/inspecionar escolher/selecionar roubar/furtar "
    "levantar/erguer mover/deslocar mostrar/exibir polir/lustrar destruir:destruiu:destruído limpar:limpou:limpo "
    "pintar carregar fotografar desenhar medir lavar descrever:descreveu:descrito vender embrulhar pesar filmar "
    "encomendar devolver testar cobrir:cobriu:coberto copiar decorar restaurar alugar"
)
REMEMBER = Implicative("lembrou-se de", "não se lembrou de")
FORGET = Implicative("esqueceu-se de", "não se esqueceu de")
LEXICON = Lexicon(
    people=PEOPLE,
    things=_nouns(
        "lâmpada, relógio, cadeira, mesa, caixa, guitarra, bicicleta, m:guarda-chuva, mala, espelho, m:rádio, cesto, "
        "cobertor, barco, m:tapete, vela, casaco, tambor, bandeira, chapéu, chaleira, m:balde, escada, m:mapa, colar, "
        "forno, piano, almofada, prato, m:cartaz, anel, lenço, camisa, m:sofá, telescópio, brinquedo, m:trompete, "
        "jarro, violino, roda, balança, faca, gravata, boneca"
    ),
    places=tuple((f"{'na' if noun.gender == 'f' else 'no'} {noun.singular}", noun.singular) for noun in PLACE_NOUNS),
    times=(
        *(f"na {day}-feira" for day in ("segunda", "terça", "quarta", "quinta", "sexta")),
        "no sábado",
        "no domingo",
        *(f"em {month}" for month in ("janeiro", "março", "abril", "junho", "julho", "agosto", "outubro", "novembro")),
    ),
    person_verbs=_verbs(
        "elogiar/louvar seguir ajudar/auxiliar convidar chamar empurrar entrevistar fotografar cumprimentar/saudar "
        "avisar/alertar ignorar criticar culpar imitar interromper contratar acusar proteger observar enganar/iludir "
        "aplaudir salvar guiar assustar acordar/despertar insultar/ofender consolar/confortar defender ridicularizar "
        "surpreender copiar atacar perseguir castigar/punir recompensar/premiar curar descrever:descreveu:descrito "
        "irritar visitar procurar vigiar libertar subornar examinar apresentar"
    ),
    thing_verbs=THING_VERBS,
    count_verbs=_verbs(
        "comprar/adquirir vender comer encontrar colher/apanhar lavar roubar/furtar pesar descascar encomendar "
        "provar/saborear"
    ),
    renamed_verbs=tuple(verbs for verbs in THING_VERBS if len(verbs) > 1),
    choice_verbs=_verbs(
        "comprar/adquirir examinar/inspecionar escolher/selecionar filmar/gravar mostrar/exibir desenhar/esboçar "
        "furtar/roubar"
    ),
    counted=_nouns(
        "f:maçã, pera, laranja, m:limão, pêssego, ameixa, figo, m:melão, cenoura, cebola, batata, pepino, beterraba, "
        "banana, damasco, manga, nabo, abóbora, m:tomate, ovo"
    ),
    kinds=_kinds(
        "animal=m:cão:cães,gato,cavalo,cabra,coelho,raposa,burro,lobo,vaca,urso; "
        "f:flor=rosa,tulipa,margarida,orquídea,violeta,lírio,cravo; "
        "veículo=carro,trator,carroça,ambulância,motocicleta,bicicleta; "
        "ferramenta=martelo,serra,machado,enxada,f:pá,m:alicate; "
        "instrumento_musical=guitarra,violino,piano,flauta,m:trompete,harpa,tambor; "
        "arma=espada,adaga,espingarda,pistola,lança,m:canhão; f:embarcação=canoa,jangada,gôndola,m:iate,m:veleiro; "
        "f:ave=m:pardal,águia,coruja,papagaio,m:cisne,pato,pombo; "
        "f:árvore=carvalho,bétula,salgueiro,oliveira,cedro,pinheiro; "
        "inseto=abelha,formiga,vespa,besouro,borboleta,mosca,grilo"
    ),
    fields=(
        Field(
            PEOPLE,
            _opposites(
                "acordado|desperto/adormecido armado/desarmado|sem_armas calçado/descalço|sem_sapatos "
                "vacinado|imunizado/por_vacinar|sem_vacina empregado/desempregado|sem_emprego "
                "protegido/desprotegido|sem_proteção"
            ),
        ),
        Field(
            _nouns("caixa, mala, gaveta, m:baú, m:armário, m:cofre, pasta, mochila, janela, porta, m:portão, carteira"),
            _opposites("aberto/fechado danificado|estragado/intacto pintado/por_pintar protegido/desprotegido"),
        ),
        Field(
            _nouns(
                "lâmpada, m:rádio, m:aquecedor, forno, m:computador, f:televisão, impressora, ventoinha, m:projetor, "
                "chaleira, máquina, telefone"
            ),
            _opposites("ligado/desligado danificado|estragado/intacto protegido|resguardado/desprotegido|sem_proteção"),
        ),
        Field(
            _nouns(
                "carta, contrato, relatório, m:poema, tratado, testamento, f:petição, diário, m:romance, manuscrito, "
                "ensaio"
            ),
            _opposites(
                "assinado/por_assinar terminado|acabado/inacabado|por_terminar legível/ilegível "
                "publicado|editado/por_publicar traduzido/por_traduzir"
            ),
        ),
    ),
    dimensions=_dimensions(
        "é mais velh[o] do que/é mais nov[o] do que; é mais alt[o] do que/é mais baix[o] do que; é mais pesad[o] do "
        "que/é mais leve do que; chegou antes de/chegou depois de; ganha mais do que/ganha menos do que; acordou antes "
        "de/acordou depois de; é mais ric[o] do que|é mais abastad[o] do que/é mais pobre do que|é menos abastad[o] do "
        "que; é mais rápid[o] do que|é mais veloz do que/é mais lent[o] do que|é menos veloz do que; é mais corajos[o] "
        "do que|é mais valente do que/é menos corajos[o] do que|é menos valente do que; é mais inteligente do que|é "
        "mais espert[o] do que/é menos inteligente do que|é menos espert[o] do que; é mais famos[o] do que|é mais "
        "conhecid[o] do que/é menos famos[o] do que|é menos conhecid[o] do que; é mais cortês do que|é mais educad[o] "
        "do que/é menos cortês do que|é menos educad[o] do que; é mais preguiços[o] do que|é mais indolente do que/é "
        "menos preguiços[o] do que|é menos indolente do que; é mais calm[o] do que|é mais tranquil[o] do que/é menos "
        "calm[o] do que|é menos tranquil[o] do que; é mais sever[o] do que|é mais rigoros[o] do que/é menos sever[o] "
        "do que|é menos rigoros[o] do que; partiu antes de|saiu antes de/partiu depois de|saiu depois de"
    ),
    achieve=(Implicative("conseguiu", "não conseguiu"), REMEMBER),
    miss=(FORGET, Implicative("absteve-se de", "não se absteve de")),
    intend=(
        Implicative("prometeu", "não prometeu"),
        Implicative("ofereceu-se para", "não se ofereceu para"),
        Implicative("pediu para", "não pediu para"),
    ),
    decline=("recusou-se a", "negou-se a", "evitou"),
    knows=("sabia que", "descobriu que", "acreditava com razão que"),
    errs=("acreditava erradamente que", "afirmou falsamente que", "pensava por engano que"),
    claims=("acreditava que", "afirmou que", "pensava que", "suspeitava que"),
    remember=REMEMBER,
    forget=FORGET,
    changes=(
        Change(
            _nouns("caixa, mala, gaveta, m:baú, m:armário, m:cofre, janela, porta, m:portão, m:guarda-chuva"),
            _opposites("aberto/fechado")[0],
            Verb("abrir", "abriu", "aberto"),
            _verb("fechar"),
        ),
        Change(
            _nouns("porta, m:portão, m:cofre, f:garagem, cabana, loja, m:escritório, gaveta"),
            _opposites("trancado/destrancado")[0],
            _verb("trancar"),
            _verb("destrancar"),
        ),
        Change(
            _nouns("lâmpada, m:rádio, m:aquecedor, forno, m:computador, f:televisão, impressora, ventoinha"),
            _opposites("ligado/desligado")[0],
            _verb("ligar"),
            _verb("desligar"),
        ),
        Change(
            _nouns("m:tanque, m:balde, banheira, m:cesto, saco, jarro, garrafa"),
            _opposites("cheio/vazio")[0],
            _verb("encher"),
            _verb("esvaziar"),
        ),
    ),
    phrases={
        "sold": "{a} vendeu {x} {to_b}",
        "owns": "{x} pertence {to_b}",
        "is_in": "{a} está {at}",
        "arrived": "primeiro chegou {a}, depois {b} e finalmente {c}",
        "first": "{a} foi {a_art} primeir{a_art} a chegar",
        "last": "{a} foi {a_art} últim{a_art} a chegar",
        "after": "depois de {base} {x}, {a} foi para casa",
        "forgot": "{a} queria {base} {x} e {y}, mas esqueceu-se {of_z}",
        "only": "só {x} foi {participle}",
        "fronted": "{time}, {clause}",
    },
    # Only coordinating conjunctions: after one such as "enquanto" the pronoun of "lembrou-se" would have to move.
    train_frames=Frames(
        joined=("{0}, mas {1}.", "{0} e {1}.", "{0}; {1}."),
        single=("{0}.", "{0}.", "na verdade, {0}."),
        second=("{0}.", "{0}.", "claramente, {0}."),
        linked=("depois {0}.", "a seguir, {0}."),
        next=("agora {0}.", "assim, {0}."),
    ),
    fresh_frames=Frames(
        joined=("{0}; por outro lado, {1}.", "{0}; além disso, {1}."),
        single=("como sabemos, {0}.", "certamente, {0}."),
        second=("em suma, {0}.", "com certeza, {0}."),
        linked=("mais tarde, {0}.", "pouco depois, {0}."),
        next=("em consequência, {0}.", "portanto, {0}."),
    ),
)


def _article(noun: Noun, *, plural: bool = False) -> str:
    return ("a" if noun.gender == "f" else "o") + ("s" if plural else "")


class Portuguese(Grammar):
    """Builds Portuguese clauses: articles, participles and adjectives agree; prepositions contract with articles."""

    lexicon = LEXICON
    bounds = BOUNDS

    def the(self, noun: Noun) -> str:
        return f"{_article(noun)} {noun.singular}"

    def some(self, noun: Noun) -> str:
        return f"{'uma' if noun.gender == 'f' else 'um'} {noun.singular}"

    def any_of(self, noun: Noun, *, under_not: bool) -> str:
        determiner = "qualquer" if not under_not else "nenhuma" if noun.gender == "f" else "nenhum"
        return f"{determiner} {noun.singular}"

    def active(self, agent: Noun, verb: Verb, rest: str, *, negative: bool = False) -> str:
        return f"{self.the(agent)} {'não ' if negative else ''}{verb.past} {rest}"

    def passive(self, agent: Noun, verb: Verb, patient: Noun, *, negative: bool = False) -> str:
        participle = self.agreeing(verb.participle, patient)
        by = "pela" if agent.gender == "f" else "pelo"
        return f"{self.the(patient)} {'não ' if negative else ''}foi {participle} {by} {agent.singular}"

    def state(self, noun: Noun, adjective: Adjective, *, negative: bool = False) -> str:
        form = adjective.f if noun.gender == "f" else adjective.m
        return f"{self.the(noun)} {'não ' if negative else ''}está {form}"

    def compared(self, noun: Noun, phrase: tuple[str, str], other: Noun) -> str:
        text = phrase[noun.gender == "f"]
        # "antes de" contracts with the article, "do que" does not.
        predicate = f"{text[:-2]}d{self.the(other)}" if text.endswith(" de") else f"{text} {self.the(other)}"
        return f"{self.the(noun)} {predicate}"

    def earlier(self, agent: Noun, verb: Verb, patient: Noun) -> str:
        return f"{self.the(agent)} tinha {verb.participle} {self.the(patient)}"

    def quantified(self, quantifier: Quantifier, noun: Noun, adjective: Adjective, place: str) -> str:
        article, feminine = _article(noun, plural=True), noun.gender == "f"
        plural = adjective.fs if feminine else adjective.ms
        singular = adjective.f if feminine else adjective.m
        match quantifier:
            case "all":
                return f"tod{article} {article} {noun.plural} {place} estão {plural}"
            case "not_all":
                return f"nem tod{article} {article} {noun.plural} {place} estão {plural}"
            case "some":
                return f"pelo menos {'uma' if feminine else 'um'} d{article} {noun.plural} {place} está {singular}"
            case "none":
                return f"{'nenhuma' if feminine else 'nenhum'} d{article} {noun.plural} {place} está {singular}"

    def number(self, number: int, noun: Noun) -> str:
        return "duas" if number == 2 and noun.gender == "f" else NUMBERS[number]

    def went(self, agent: Noun, start: tuple[str, str], end: tuple[str, str], *, on: bool) -> str:
        source = f"d{start[0][1:]}"
        goal = f"para {end[0][1:]}"
        return f"{self.the(agent)} {'seguiu' if on else 'foi'} {source} {goal}"

    def forms(self, key: str, noun: Noun) -> dict[str, str]:
        article = _article(noun)
        to = "à" if noun.gender == "f" else "ao"
        return {
            key: self.the(noun),
            f"{key}_art": article,
            f"to_{key}": f"{to} {noun.singular}",
            f"of_{key}": f"d{self.the(noun)}",
        }

    def agreeing(self, participle: str, noun: Noun) -> str:
        return participle[:-1] + "a" if noun.gender == "f" else participle
